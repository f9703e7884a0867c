// Kernels with planted bugs, and the same without them: what the simulator must find, and what it must let pass.
#include "common.cuh"

// out[block] = sum of 64 numbers.
__device__ __forceinline__ void sum_of_block(const float* x, float* out, bool barriers) {
    SHARED(float, parts, 64);
    const unsigned t = threadIdx.x;
    parts[t] = x[blockIdx.x * 64 + t];
    for (unsigned width = 32; width > 0; width /= 2) {
        if (barriers) __syncthreads();
        if (t < width) parts[t] += parts[t + width];
    }
    if (t == 0) out[blockIdx.x] = parts[0];
}
extern "C" __global__ void sound_sum(const float* x, float* out) { sum_of_block(x, out, true); }
extern "C" __global__ void bug_missing_barrier(const float* x, float* out) { sum_of_block(x, out, false); }

// y = x + x's right neighbour.
extern "C" __global__ void bug_read_out_of_bounds(const float* x, float* y, unsigned n) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i] + x[i + 1];
}

// Half a warp asks the whole warp.
extern "C" __global__ void bug_divergent_collective(float* y) {
    float x = threadIdx.x;
    if (threadIdx.x < 16) x = warp_sum(x);
    y[threadIdx.x] = x;
}

// Half a block waits for the whole block while the other half asks its warp.
extern "C" __global__ void bug_divergent_barrier(float* y) {
    float x = threadIdx.x;
    if (threadIdx.x < 16) __syncthreads();
    else x = __shfl_sync(kAllLanes, x, 0);
    y[threadIdx.x] = x;
}

// Nobody wrote the last number.
extern "C" __global__ void bug_uninitialised_shared(float* y) {
    SHARED(float, numbers, 32);
    if (threadIdx.x < 31) numbers[threadIdx.x] = 1.0f;
    __syncthreads();
    y[threadIdx.x] = numbers[31 - threadIdx.x];
}
extern "C" __global__ void bug_uninitialised_dynamic(float* y) {
    DYNAMIC_SHARED(float, numbers);
    __syncthreads();
    y[threadIdx.x] = numbers[threadIdx.x];
}

// The guard lets one thread too many, or too few, through.
extern "C" __global__ void bug_guard_too_wide(float* y, unsigned n) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i <= n) y[i] = 1.0f;
}
extern "C" __global__ void bug_guard_too_narrow(float* y, unsigned n) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i + 1 < n) y[i] = 1.0f;
}

// An input is written.
extern "C" __global__ void bug_writes_input(float* x) { x[threadIdx.x] += 1.0f; }

// A shuffle between halves whose mask names one half only.
extern "C" __global__ void bug_foreign_lane(float* y) {
    const unsigned half = threadIdx.x < 16 ? 0x0000ffffu : 0xffff0000u;
    y[threadIdx.x] = __shfl_xor_sync(half, float(threadIdx.x), 16);
}
