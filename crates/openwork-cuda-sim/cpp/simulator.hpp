// CUDA C++ on the CPU, for tests: the text of a kernel, compiled by an ordinary C++ compiler.
//
// Every thread of a block is a fibre. Fibres run until they reach a barrier or a collective of their warp; which goes
// first there is decided by the schedule, so that what depends on the order of threads shows. Blocks run one after
// another in an order of the schedule, too. Shared memory holds NaNs when a block starts.
//
// Found and reported: barriers and collectives that not all threads reach, collectives that name ended or other lanes,
// lanes that meet in different collectives, reading what nobody wrote (as NaN). With the address sanitizer: reads and
// writes out of bounds. Not found: races between blocks, and within a warp between two collectives.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define SIMULATOR_ASAN 1
#endif
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};

namespace simulator {

constexpr unsigned kWarp = 32;
constexpr size_t kStack = 64 * 1024;

enum class State { Ready, Barrier, Collective, Ended };
enum class Collective { None, Sync, Shuffle, Vote };

struct Fibre {
#if defined(__x86_64__)
    void* stack_pointer = nullptr;
#else
    ucontext_t context;
#endif
    void* fake_stack = nullptr;
    char* stack = nullptr;
    dim3 thread;
    unsigned number = 0;
    State state = State::Ready;
    // What a lane shows to its warp. Two slots in turn: a lane may reach the next collective before the others have
    // read this one.
    Collective collective = Collective::None;
    unsigned mask = 0, turn = 0;
    unsigned char slot[2][32];
};

// SplitMix64 (Steele et al. 2014).
struct Random {
    uint64_t state;
    uint64_t next() {
        uint64_t z = state += 0x9e3779b97f4a7c15u;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        return z ^ z >> 31;
    }
};

// The block that runs on this operating-system thread.
struct Machine {
    std::vector<Fibre> fibres;
    Fibre root;
    Fibre* current = nullptr;
    dim3 grid, block, index;
    uint64_t schedule = 0, serial = 0;
    unsigned char* dynamic = nullptr;
    size_t dynamic_bytes = 0;
    std::map<const void*, uint64_t> poisoned;
    void (*body)(void*) = nullptr;
    void* argument = nullptr;
    std::string error;
    // Votes of the threads at a barrier: how many said yes since the last one.
    unsigned votes = 0, counted = 0, voters = 0;
    std::vector<char*> stacks;
    const void* root_bottom = nullptr;
    size_t root_size = 0;

    ~Machine() {
        for (char* stack : stacks) std::free(stack);
    }
};

inline thread_local Machine machine;

#if defined(__x86_64__)
// Saves the registers that a call preserves, and goes on where the other fibre was.
extern "C" void openwork_simulator_switch(void** save, void* load);
#endif

inline void go(Fibre& from, Fibre& to, bool for_good = false) {
#ifdef SIMULATOR_ASAN
    const bool to_root = &to == &machine.root;
    __sanitizer_start_switch_fiber(for_good ? nullptr : &from.fake_stack, to_root ? machine.root_bottom : to.stack,
                                   to_root ? machine.root_size : kStack);
#else
    (void)for_good;
#endif
#if defined(__x86_64__)
    openwork_simulator_switch(&from.stack_pointer, to.stack_pointer);
#else
    swapcontext(&from.context, &to.context);
#endif
#ifdef SIMULATOR_ASAN
    __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

inline void wait(State state) {
    Fibre& me = *machine.current;
    me.state = state;
    go(me, machine.root);
}

// What is wrong, and where.
inline std::string at(const char* what, const Fibre& fibre) {
    char text[256];
    snprintf(text, sizeof text, "%s (block %u,%u,%u, thread %u,%u,%u)", what, machine.index.x, machine.index.y,
             machine.index.z, fibre.thread.x, fibre.thread.y, fibre.thread.z);
    return text;
}

// Ends the launch. Called by a fibre: it is never resumed.
[[noreturn]] inline void fail(const char* what) {
    machine.error = at(what, *machine.current);
    machine.current->state = State::Ended;
    go(*machine.current, machine.root, true);
    abort();
}

inline void enter() {
#ifdef SIMULATOR_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &machine.root_bottom, &machine.root_size);
#endif
    machine.body(machine.argument);
    machine.current->state = State::Ended;
    go(*machine.current, machine.root, true);
    abort();
}

inline void prepare(Fibre& fibre) {
#ifdef SIMULATOR_ASAN
    // Frames of an earlier block that did not end have left marks.
    __asan_unpoison_memory_region(fibre.stack, kStack);
#endif
#if defined(__x86_64__)
    // As if `enter` had been called from nowhere: the stack pointer is 8 above a multiple of 16.
    void** top = reinterpret_cast<void**>(fibre.stack + kStack);
    *--top = nullptr;
    *--top = reinterpret_cast<void*>(enter);
    for (int i = 0; i < 6; ++i) *--top = nullptr;
    fibre.stack_pointer = top;
#else
    getcontext(&fibre.context);
    fibre.context.uc_stack.ss_sp = fibre.stack;
    fibre.context.uc_stack.ss_size = kStack;
    fibre.context.uc_link = nullptr;
    makecontext(&fibre.context, enter, 0);
#endif
}

// 0 goes upwards, 1 downwards, every other one shuffles.
inline void order(uint64_t schedule, Random& random, std::vector<unsigned>& numbers) {
    for (unsigned i = 0; i < numbers.size(); ++i) numbers[i] = i;
    if (schedule == 1) std::reverse(numbers.begin(), numbers.end());
    if (schedule < 2) return;
    for (size_t i = numbers.size(); i > 1; --i) std::swap(numbers[i - 1], numbers[random.next() % i]);
}

// Lets the lanes of a warp go on that wait for no other lane.
inline bool release(unsigned warp) {
    const unsigned threads = machine.fibres.size(), first = warp * kWarp, count = std::min(kWarp, threads - first);
    unsigned waiting = 0, alive = 0;
    for (unsigned lane = 0; lane < count; ++lane) {
        const Fibre& fibre = machine.fibres[first + lane];
        if (fibre.state != State::Ended) alive |= 1u << lane;
        if (fibre.state == State::Collective) waiting |= 1u << lane;
    }
    bool released = false;
    for (unsigned lane = 0; lane < count; ++lane) {
        Fibre& fibre = machine.fibres[first + lane];
        if (!(waiting >> lane & 1)) continue;
        const unsigned mask = fibre.mask, exists = count == kWarp ? ~0u : (1u << count) - 1;
        const char* wrong = nullptr;
        if (!(mask >> lane & 1)) wrong = "a collective is called by a lane that its mask does not name";
        if (mask & exists & ~alive) wrong = "a collective names a lane that has ended";
        if (!wrong && mask & exists & ~waiting) continue;
        for (unsigned other = 0; other < count && !wrong; ++other) {
            const Fibre& partner = machine.fibres[first + other];
            if (!(mask >> other & 1)) continue;
            if (partner.mask != mask) wrong = "lanes meet in a collective with different masks";
            if (partner.collective != fibre.collective) wrong = "lanes meet in different collectives";
        }
        if (wrong) {
            machine.error = at(wrong, fibre);
            return false;
        }
        for (unsigned other = 0; other < count; ++other) {
            if (mask >> other & 1) machine.fibres[first + other].state = State::Ready;
        }
        waiting &= ~mask;
        released = true;
    }
    return released;
}

inline void run_block(Random& random) {
    const unsigned threads = machine.block.x * machine.block.y * machine.block.z;
    while (machine.stacks.size() < threads) {
        machine.stacks.push_back(static_cast<char*>(std::aligned_alloc(64, kStack)));
    }
    machine.fibres.resize(threads);
    machine.votes = 0;
    for (unsigned i = 0; i < threads; ++i) {
        Fibre& fibre = machine.fibres[i];
        fibre.stack = machine.stacks[i];
        fibre.number = i;
        fibre.thread = {i % machine.block.x, i / machine.block.x % machine.block.y,
                        i / (machine.block.x * machine.block.y)};
        fibre.state = State::Ready;
        fibre.turn = 0;
        fibre.fake_stack = nullptr;
        prepare(fibre);
    }
    std::vector<unsigned> numbers(threads), warps((threads + kWarp - 1) / kWarp);
    for (;;) {
        order(machine.schedule, random, numbers);
        bool ran = false;
        for (unsigned number : numbers) {
            Fibre& fibre = machine.fibres[number];
            if (fibre.state != State::Ready) continue;
            machine.current = &fibre;
            go(machine.root, fibre);
            if (!machine.error.empty()) return;
            ran = true;
        }
        order(machine.schedule, random, warps);
        for (unsigned warp : warps) {
            ran |= release(warp);
            if (!machine.error.empty()) return;
        }
        unsigned alive = 0, at_barrier = 0;
        for (const Fibre& fibre : machine.fibres) {
            alive += fibre.state != State::Ended;
            at_barrier += fibre.state == State::Barrier;
        }
        if (alive == 0) return;
        if (at_barrier == alive) {
            machine.counted = machine.votes;
            machine.voters = alive;
            machine.votes = 0;
            for (Fibre& fibre : machine.fibres) {
                if (fibre.state == State::Barrier) fibre.state = State::Ready;
            }
        } else if (!ran) {
            char text[256];
            snprintf(text, sizeof text, "deadlock: %u of %u threads wait at a barrier, the others in collectives (block %u,%u,%u)",
                     at_barrier, alive, machine.index.x, machine.index.y, machine.index.z);
            machine.error = text;
            return;
        }
    }
}

// Runs all blocks; returns what went wrong, or nothing.
template <class Body>
std::string launch(dim3 grid, dim3 block, size_t dynamic_bytes, uint64_t schedule, Body body) {
    machine.grid = grid;
    machine.block = block;
    machine.schedule = schedule;
    machine.body = [](void* body) { (*static_cast<Body*>(body))(); };
    machine.argument = &body;
    machine.error.clear();
    machine.dynamic_bytes = dynamic_bytes;
    // Of its own, so that the address sanitizer sees where it ends.
    machine.dynamic = static_cast<unsigned char*>(std::aligned_alloc(16, (dynamic_bytes + 15) / 16 * 16 + 16));
    Random random{schedule};
    std::vector<unsigned> blocks(grid.x * grid.y * grid.z);
    order(schedule, random, blocks);
    for (unsigned number : blocks) {
        machine.index = {number % grid.x, number / grid.x % grid.y, number / (grid.x * grid.y)};
        ++machine.serial;
        memset(machine.dynamic, 0xff, dynamic_bytes);
        run_block(random);
        if (!machine.error.empty()) break;
    }
    std::free(machine.dynamic);
    return machine.error;
}

// Fills a static shared array with NaNs when a block first comes to it.
inline void fresh(void* array, size_t bytes) {
    uint64_t& serial = machine.poisoned[array];
    if (serial != machine.serial) {
        serial = machine.serial;
        memset(array, 0xff, bytes);
    }
}

// Shows `value` to the warp and waits for the lanes in `mask`.
template <class T>
void meet(Collective collective, unsigned mask, const T& value) {
    static_assert(sizeof(T) <= sizeof(Fibre::slot[0]), "a lane shows at most 32 bytes");
    Fibre& me = *machine.current;
    me.turn ^= 1;
    memcpy(me.slot[me.turn], &value, sizeof value);
    me.collective = collective;
    me.mask = mask;
    wait(State::Collective);
}

// What a lane showed in the collective that has just ended; the own value where there is no such lane.
template <class T>
T shown(unsigned lane, const T& own) {
    const Fibre& me = *machine.current;
    const unsigned number = me.number / kWarp * kWarp + lane;
    if (number >= machine.fibres.size()) return own;
    if (!(me.mask >> lane & 1)) fail("a shuffle reads from a lane that its mask does not name");
    T value;
    memcpy(&value, machine.fibres[number].slot[me.turn], sizeof value);
    return value;
}

template <class T>
T shuffle(unsigned mask, const T& value, unsigned from) {
    meet(Collective::Shuffle, mask, value);
    return shown(from, value);
}

inline unsigned vote(unsigned mask, bool value) {
    meet(Collective::Vote, mask, unsigned(value));
    unsigned result = 0;
    for (unsigned lane = 0; lane < kWarp; ++lane) {
        if (mask >> lane & 1) result |= shown(lane, 0u) << lane;
    }
    return result;
}

// Kernels by name, for callers that are not C++.
struct Kernel {
    const char* name;
    // A letter for every argument: p pointer, u 32-bit integer, f float.
    std::string (*signature)();
    void (*call)(void** arguments);
};

template <class T>
constexpr char letter() {
    static_assert(std::is_pointer_v<T> || sizeof(T) == 4, "arguments of kernels are pointers and numbers of 32 bits");
    return std::is_pointer_v<T> ? 'p' : std::is_same_v<T, float> ? 'f' : 'u';
}

template <auto kernel>
struct Entry;

template <class... A, void (*kernel)(A...)>
struct Entry<kernel> {
    static std::string signature() { return {letter<A>()...}; }

    template <size_t... I>
    static void call_with(void** arguments, std::index_sequence<I...>) {
        kernel(*static_cast<std::remove_const_t<A>*>(arguments[I])...);
    }

    static void call(void** arguments) { call_with(arguments, std::index_sequence_for<A...>()); }

    static Kernel named(const char* name) { return {name, signature, call}; }
};

}  // namespace simulator

// The language.
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __restrict__ __restrict

#define threadIdx (simulator::machine.current->thread)
#define blockIdx (simulator::machine.index)
#define blockDim (simulator::machine.block)
#define gridDim (simulator::machine.grid)
constexpr int warpSize = 32;

#define SHARED(T, name, count)                            \
    alignas(16) static thread_local T name[count];        \
    simulator::fresh(name, sizeof name)
#define DYNAMIC_SHARED(T, name) T* name = reinterpret_cast<T*>(simulator::machine.dynamic)

struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

inline void __syncthreads() { simulator::wait(simulator::State::Barrier); }
inline int __syncthreads_count(int value) {
    simulator::machine.votes += value != 0;
    __syncthreads();
    return int(simulator::machine.counted);
}
inline int __syncthreads_or(int value) { return __syncthreads_count(value) != 0; }
inline int __syncthreads_and(int value) { return __syncthreads_count(value) == int(simulator::machine.voters); }
inline void __syncwarp(unsigned mask = ~0u) { simulator::meet(simulator::Collective::Sync, mask, 0u); }
inline unsigned simulator_lane() { return simulator::machine.current->number % simulator::kWarp; }
template <class T> T __shfl_sync(unsigned mask, T value, unsigned from) {
    return simulator::shuffle(mask, value, from % simulator::kWarp);
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, unsigned bits) {
    return simulator::shuffle(mask, value, simulator_lane() ^ bits);
}
template <class T> T __shfl_up_sync(unsigned mask, T value, unsigned by) {
    const unsigned lane = simulator_lane();
    return simulator::shuffle(mask, value, lane < by ? lane : lane - by);
}
template <class T> T __shfl_down_sync(unsigned mask, T value, unsigned by) {
    const unsigned lane = simulator_lane();
    return simulator::shuffle(mask, value, lane + by < simulator::kWarp ? lane + by : lane);
}
inline unsigned __ballot_sync(unsigned mask, int value) { return simulator::vote(mask, value != 0); }
inline int __any_sync(unsigned mask, int value) { return simulator::vote(mask, value != 0) != 0; }
inline int __all_sync(unsigned mask, int value) { return simulator::vote(mask, value == 0) == 0; }

// One thread at a time runs, so that these are atomic as they stand.
template <class T> T atomicAdd(T* at, T value) { T old = *at; *at = old + value; return old; }
template <class T> T atomicMax(T* at, T value) { T old = *at; *at = std::max(old, value); return old; }
template <class T> T atomicMin(T* at, T value) { T old = *at; *at = std::min(old, value); return old; }
template <class T> T __ldg(const T* at) { return *at; }
inline void __threadfence() {}

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(unsigned x) { return x ? __builtin_clz(x) : 32; }
inline int __ffs(unsigned x) { return __builtin_ffs(int(x)); }
inline unsigned __float_as_uint(float x) { unsigned bits; memcpy(&bits, &x, 4); return bits; }
inline float __uint_as_float(unsigned bits) { float x; memcpy(&x, &bits, 4); return x; }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
template <class T> T max(T a, T b) { return a < b ? b : a; }
template <class T> T min(T a, T b) { return b < a ? b : a; }
using std::fabs;
using std::fma;
