#!/bin/sh
# The linker that cargo calls on Linux: `cc`. Installs it first where it is missing and that is allowed, because
# without it cargo cannot even build xtask.

# g++ for the tests of CUDA kernels, which run as C++; it brings the linker.
packages="g++ libc6-dev"

has_cc() { command -v cc >/dev/null 2>&1; }

# rustc shows what a linker writes only after it failed, so the terminal is told directly where there is one.
say() { { echo "$1" >/dev/tty; } 2>/dev/null || echo "$1" >&2; }

# Several rustc link at once: the first one installs, holding a lock on this file, and the others wait for it. The
# machine may be busy with updates of its own. A list that cannot be renewed matters only if the packages are not found.
install_cc() (
    flock 9
    has_cc && exit
    say "== installing the C linker that rustc needs ($packages)"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -q update >&2 </dev/null
    # shellcheck disable=SC2086
    apt-get -q -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends $packages >&2 </dev/null
) 9<"$0"

if ! has_cc; then
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "error: rustc needs the C linker cc; install a C compiler (most systems call the package gcc)" >&2
        exit 1
    elif [ "$(id -u)" != 0 ]; then
        echo "error: rustc needs the C linker cc; install it with: sudo apt-get install --yes $packages" >&2
        exit 1
    elif ! install_cc || ! has_cc; then
        echo "error: rustc needs the C linker cc, and this failed: apt-get install --yes $packages" >&2
        exit 1
    fi
fi
exec cc "$@"
