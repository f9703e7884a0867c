// Preloaded before a program, makes its FAULT_AT-th call of FAULT_OP fail as on a full disk or without memory, and writes the
// number of such calls to the file FAULT_COUNT when the program exits. Operations: write, sync, rename, memory.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static atomic_long calls;

static int due(const char *operation) {
    const char *wanted = getenv("FAULT_OP"), *at = getenv("FAULT_AT");
    if (!wanted || !at || strcmp(wanted, operation)) return 0;
    return atomic_fetch_add(&calls, 1) + 1 == atol(at);
}

ssize_t write(int file, const void *bytes, size_t n) {
    if (file > 2 && due("write")) { errno = ENOSPC; return -1; }
    return syscall(SYS_write, file, bytes, n);
}

int fsync(int file) {
    if (due("sync")) { errno = EIO; return -1; }
    return syscall(SYS_fsync, file);
}

int fdatasync(int file) {
    if (due("sync")) { errno = EIO; return -1; }
    return syscall(SYS_fdatasync, file);
}

int rename(const char *from, const char *to) {
    if (due("rename")) { errno = EIO; return -1; }
    return syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to);
}

void *mmap(void *at, size_t n, int access, int flags, int file, off_t offset) {
    if ((flags & MAP_ANONYMOUS) && due("memory")) { errno = ENOMEM; return MAP_FAILED; }
    return (void *)syscall(SYS_mmap, at, n, access, flags, file, offset);
}

void *mmap64(void *at, size_t n, int access, int flags, int file, off_t offset) {
    return mmap(at, n, access, flags, file, offset);
}

__attribute__((destructor)) static void report(void) {
    const char *path = getenv("FAULT_COUNT");
    char text[32];
    if (!path) return;
    int file = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    int n = snprintf(text, sizeof text, "%ld", atomic_load(&calls));
    syscall(SYS_write, file, text, n);
    syscall(SYS_close, file);
}
