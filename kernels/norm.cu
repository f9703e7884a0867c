// RMSNorm and LayerNorm over the features of each token.
//
//   y[f, t] = (x[f, t] - mean[t]) * scale[t] * gain[f] + bias[f],   scale = 1 / sqrt(second moment about mean + eps)
//
// mean is 0 for RMSNorm (`layer` 0) and that of the token for LayerNorm (1). X, Y [features, tokens], rows `stride`
// apart, a multiple of 32; gain, bias [features], bias may be null. `mean` and `scale` [tokens] are kept for backward.
//
// Floors: forward 8 bytes an entry through memory (what is read twice comes from the second cache), backward 16, the
// gradients of gain and bias 8.
#include "common.cuh"

constexpr unsigned kTokens = 32, kSlices = 8;

// The sum over the slices of features that the threads of a token have gone through, in the order of slices.
__device__ __forceinline__ float sum_of_slices(float mine, float* parts) {
    __syncthreads();  // the parts of the sum before have been read
    parts[threadIdx.x] = mine;
    __syncthreads();  // all parts are there
    float sum = 0.0f;
    for (unsigned i = 0; i < kSlices; ++i) sum += parts[i * kTokens + threadIdx.x % kTokens];
    return sum;
}

extern "C" __global__ void __launch_bounds__(kTokens* kSlices)
    norm_forward(const float* __restrict__ x, const float* __restrict__ gain, const float* __restrict__ bias,
         float* __restrict__ y, float* __restrict__ mean, float* __restrict__ scale, unsigned features,
         unsigned stride, float eps, unsigned layer) {
    SHARED(float, parts, kTokens * kSlices);
    const unsigned t = blockIdx.x * kTokens + threadIdx.x % kTokens, slice = threadIdx.x / kTokens;
    float m = 0.0f;
    if (layer) {
        for (unsigned f = slice; f < features; f += kSlices) m += x[size_t(f) * stride + t];
        m = sum_of_slices(m, parts) / features;
    }
    float square = 0.0f;
    for (unsigned f = slice; f < features; f += kSlices) {
        const float d = x[size_t(f) * stride + t] - m;
        square = __fmaf_rn(d, d, square);
    }
    const float s = 1.0f / sqrtf(sum_of_slices(square, parts) / features + eps);
    if (slice == 0) {
        mean[t] = m;
        scale[t] = s;
    }
    for (unsigned f = slice; f < features; f += kSlices) {
        const size_t at = size_t(f) * stride + t;
        y[at] = (x[at] - m) * s * gain[f] + (bias ? bias[f] : 0.0f);
    }
}

// With n the normalised x and h = gain dy:  dx += scale (h - n mean_f(h n) - mean_f(h)), the last for LayerNorm alone.
extern "C" __global__ void __launch_bounds__(kTokens* kSlices)
    norm_backward(const float* __restrict__ x, const float* __restrict__ gain, const float* __restrict__ dy,
                  const float* __restrict__ mean, const float* __restrict__ scale, float* __restrict__ dx,
                  unsigned features, unsigned stride, unsigned layer) {
    SHARED(float, parts, kTokens * kSlices);
    const unsigned t = blockIdx.x * kTokens + threadIdx.x % kTokens, slice = threadIdx.x / kTokens;
    const float m = mean[t], s = scale[t];
    float hn = 0.0f, h = 0.0f;
    for (unsigned f = slice; f < features; f += kSlices) {
        const size_t at = size_t(f) * stride + t;
        const float g = gain[f] * dy[at];
        hn = __fmaf_rn(g, (x[at] - m) * s, hn);
        h += g;
    }
    hn = sum_of_slices(hn, parts) / features;
    h = layer ? sum_of_slices(h, parts) / features : 0.0f;
    for (unsigned f = slice; f < features; f += kSlices) {
        const size_t at = size_t(f) * stride + t;
        dx[at] += s * (gain[f] * dy[at] - (x[at] - m) * s * hn - h);
    }
}

// dgain[f] += sum over tokens of dy n, dbias[f] += sum of dy; dbias may be null. One block a feature.
extern "C" __global__ void __launch_bounds__(256)
    norm_gain_gradient(const float* __restrict__ x, const float* __restrict__ dy, const float* __restrict__ mean,
                       const float* __restrict__ scale, float* __restrict__ dgain, float* __restrict__ dbias,
                       unsigned tokens, unsigned stride) {
    SHARED(float, gain_parts, 8);
    SHARED(float, bias_parts, 8);
    const size_t row = size_t(blockIdx.x) * stride;
    float gain = 0.0f, bias = 0.0f;
    for (unsigned t = threadIdx.x; t < tokens; t += blockDim.x) {
        const float d = dy[row + t];
        gain = __fmaf_rn(d, (x[row + t] - mean[t]) * scale[t], gain);
        bias += d;
    }
    gain = block_sum(gain, gain_parts);
    bias = block_sum(bias, bias_parts);
    if (threadIdx.x == 0) {
        dgain[blockIdx.x] += gain;
        if (dbias) dbias[blockIdx.x] += bias;
    }
}

// db[row] += the sum of a row of dy [rows, tokens]: the gradient of a bias. One block a row. Floor: 4 bytes an entry.
extern "C" __global__ void __launch_bounds__(256)
    add_row_sums(const float* __restrict__ dy, float* __restrict__ db, unsigned tokens, unsigned stride) {
    SHARED(float, parts, 8);
    float sum = 0.0f;
    for (unsigned t = threadIdx.x; t < tokens; t += blockDim.x) sum += dy[size_t(blockIdx.x) * stride + t];
    sum = block_sum(sum, parts);
    if (threadIdx.x == 0) db[blockIdx.x] += sum;
}
