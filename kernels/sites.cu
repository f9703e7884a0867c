// What happens to activations between operations: columns that are read out, masks of nodes, neurons that were active.
//
// X [features, tokens], rows `stride` apart, a multiple of 128. Floors: the bytes named an entry, through memory.
#include "common.cuh"

constexpr unsigned kThreads = 256;

// y[f, j] = x[f, column[j]], 0 behind the last of them. 8 bytes an entry. Grid: columns in blocks, features.
extern "C" __global__ void __launch_bounds__(kThreads)
    gather_columns(const float* __restrict__ x, const unsigned* __restrict__ column, float* __restrict__ y,
                   unsigned columns, unsigned x_stride, unsigned y_stride) {
    const unsigned j = blockIdx.x * kThreads + threadIdx.x;
    if (j >= y_stride) return;
    y[size_t(blockIdx.y) * y_stride + j] = j < columns ? x[size_t(blockIdx.y) * x_stride + column[j]] : 0.0f;
}

// dx[f, column[j]] += dy[f, j]; no column twice. The backward of the above. 12 bytes an entry.
extern "C" __global__ void __launch_bounds__(kThreads)
    scatter_columns(const float* __restrict__ dy, const unsigned* __restrict__ column, float* __restrict__ dx,
                    unsigned columns, unsigned x_stride, unsigned y_stride) {
    const unsigned j = blockIdx.x * kThreads + threadIdx.x;
    if (j < columns) dx[size_t(blockIdx.y) * x_stride + column[j]] += dy[size_t(blockIdx.y) * y_stride + j];
}

// deviation[f, t] = x[f, t] - mean[f]; x[f, t] <- mean[f] where node f is not kept (keep[f] 0). 12 bytes an entry.
// Grid: tokens in blocks, features.
extern "C" __global__ void __launch_bounds__(kThreads)
    ablate(float* __restrict__ x, float* __restrict__ deviation, const unsigned char* __restrict__ keep,
           const float* __restrict__ mean, unsigned stride) {
    const unsigned t = blockIdx.x * kThreads + threadIdx.x, f = blockIdx.y;
    if (t >= stride) return;
    const size_t at = size_t(f) * stride + t;
    deviation[at] = x[at] - mean[f];
    if (!keep[f]) x[at] = mean[f];
}

// gate[f] += sum over tokens of dx[f, t] * deviation[f, t], the gradient of the mask of node f; dx[f, t] <- 0 where the
// node is not kept. 8 bytes an entry, 12 where it is not kept. One block a feature.
extern "C" __global__ void __launch_bounds__(kThreads)
    ablate_backward(float* __restrict__ dx, const float* __restrict__ deviation,
                    const unsigned char* __restrict__ keep, float* __restrict__ gate, unsigned tokens,
                    unsigned stride) {
    SHARED(float, parts, kThreads / kWarpSize);
    const size_t row = size_t(blockIdx.x) * stride;
    const bool kept = keep[blockIdx.x];
    float sum = 0.0f;
    for (unsigned t = threadIdx.x; t < tokens; t += kThreads) {
        sum = __fmaf_rn(dx[row + t], deviation[row + t], sum);
        if (!kept) dx[row + t] = 0.0f;
    }
    sum = block_sum(sum, parts);
    if (threadIdx.x == 0) gate[blockIdx.x] += sum;
}

// active[f] <- 1 where x[f, t] is not zero for some token t; otherwise it stays. 4 bytes an entry. One block a feature.
extern "C" __global__ void __launch_bounds__(kThreads)
    mark_active(const float* __restrict__ x, unsigned* __restrict__ active, unsigned tokens, unsigned stride) {
    bool mine = false;
    for (unsigned t = threadIdx.x; t < tokens; t += kThreads) mine |= x[size_t(blockIdx.x) * stride + t] != 0.0f;
    if (__syncthreads_or(mine) && threadIdx.x == 0) active[blockIdx.x] = 1;
}
