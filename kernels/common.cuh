// What every kernel begins with. The same text is compiled for a GPU and, by a C++ compiler, for the simulator.
#pragma once

#ifndef OPENWORK_SIMULATOR
#define SHARED(T, name, count) __shared__ __align__(16) T name[count]
#define DYNAMIC_SHARED(T, name)                                  \
    extern __shared__ __align__(16) unsigned char name##_bytes[]; \
    T* name = reinterpret_cast<T*>(name##_bytes)
#endif

constexpr unsigned kWarpSize = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

__device__ __forceinline__ unsigned lane_of_thread() { return threadIdx.x % kWarpSize; }
__device__ __forceinline__ unsigned warp_of_thread() { return threadIdx.x / kWarpSize; }

// Two bf16 numbers sit in a word, the one of the lower address in the lower half.
__device__ __forceinline__ float low_bf16(unsigned word) { return __uint_as_float(word << 16); }
__device__ __forceinline__ float high_bf16(unsigned word) { return __uint_as_float(word & 0xffff0000u); }

// To nearest, ties to even. NaN stays NaN.
__device__ __forceinline__ unsigned round_bf16(float x) {
    const unsigned bits = __float_as_uint(x);
    return x != x ? bits | 0x00400000u : bits + 0x7fffu + (bits >> 16 & 1u);
}
__device__ __forceinline__ unsigned pack_bf16(float low, float high) {
    return round_bf16(low) >> 16 | (round_bf16(high) & 0xffff0000u);
}

// The sum over the lanes of a warp, in every lane, in the order of a butterfly.
__device__ __forceinline__ float warp_sum(float x) {
    for (unsigned bits = kWarpSize / 2; bits > 0; bits /= 2) x += __shfl_xor_sync(kAllLanes, x, bits);
    return x;
}
// The sum over the threads of a block, in thread 0 alone, in the order of warps. `parts` [warps].
__device__ __forceinline__ float block_sum(float x, float* parts) {
    x = warp_sum(x);
    if (lane_of_thread() == 0) parts[warp_of_thread()] = x;
    __syncthreads();  // the sums of all warps are there
    if (threadIdx.x == 0) {
        for (unsigned i = 1; i < blockDim.x / kWarpSize; ++i) x += parts[i];
    }
    return x;
}
__device__ __forceinline__ float warp_max(float x) {
    for (unsigned bits = kWarpSize / 2; bits > 0; bits /= 2) x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, bits));
    return x;
}
