// What acts on entries one by one; n entries, a multiple of 4, four a thread. Floors: the bytes named, through memory.
#include "common.cuh"

constexpr unsigned kThreads = 256;

__device__ __forceinline__ unsigned first_entry() { return (blockIdx.x * blockDim.x + threadIdx.x) * 4; }

// Standard normal distribution function and density, by Abramowitz and Stegun 7.1.26 (absolute error below 1.5e-7):
// the formula of the CPU engine.
__device__ __forceinline__ void normal(float x, float& distribution, float& density) {
    const float z = fabsf(x) * 0.70710678f;
    const float gauss = expf(-z * z);
    const float t = 1.0f / __fmaf_rn(z, 0.3275911f, 1.0f);
    float p = __fmaf_rn(1.061405429f, t, -1.453152027f);
    p = __fmaf_rn(p, t, 1.421413741f);
    p = __fmaf_rn(p, t, -0.284496736f);
    p = __fmaf_rn(p, t, 0.254829592f);
    const float upper = 0.5f * p * t * gauss;  // 1 - distribution(|x|)
    distribution = x < 0.0f ? upper : 1.0f - upper;
    density = gauss * 0.3989422804f;
}

// y = x * distribution(x) and, in place of x, the derivative. 16 bytes an entry.
extern "C" __global__ void __launch_bounds__(kThreads) gelu(float* __restrict__ x, float* __restrict__ y, unsigned n) {
    const unsigned i = first_entry();
    if (i >= n) return;
    float4* at = reinterpret_cast<float4*>(x + i);
    const float4 in = *at;
    const float value[4] = {in.x, in.y, in.z, in.w};
    float slope[4], out[4];
#pragma unroll
    for (unsigned j = 0; j < 4; ++j) {
        float distribution, density;
        normal(value[j], distribution, density);
        out[j] = value[j] * distribution;
        slope[j] = distribution + value[j] * density;
    }
    *at = make_float4(slope[0], slope[1], slope[2], slope[3]);
    *reinterpret_cast<float4*>(y + i) = make_float4(out[0], out[1], out[2], out[3]);
}

// y = max(x, 0) and, in place of x, the derivative, 0 at 0. 16 bytes an entry.
extern "C" __global__ void __launch_bounds__(kThreads) relu(float* __restrict__ x, float* __restrict__ y, unsigned n) {
    const unsigned i = first_entry();
    if (i >= n) return;
    float4* at = reinterpret_cast<float4*>(x + i);
    const float4 v = *at;
    *reinterpret_cast<float4*>(y + i) = make_float4(fmaxf(v.x, 0.0f), fmaxf(v.y, 0.0f), fmaxf(v.z, 0.0f), fmaxf(v.w, 0.0f));
    *at = make_float4(v.x > 0.0f, v.y > 0.0f, v.z > 0.0f, v.w > 0.0f);
}

// x <- combine(x, y), four entries.
template <class Combine>
__device__ __forceinline__ void combine_entries(float* __restrict__ x, const float* __restrict__ y, unsigned n,
                                                Combine combine) {
    const unsigned i = first_entry();
    if (i >= n) return;
    float4* at = reinterpret_cast<float4*>(x + i);
    const float4 a = *at, b = *reinterpret_cast<const float4*>(y + i);
    *at = make_float4(combine(a.x, b.x), combine(a.y, b.y), combine(a.z, b.z), combine(a.w, b.w));
}

// x *= y: the backward of both, y being the derivative. 12 bytes an entry.
extern "C" __global__ void __launch_bounds__(kThreads)
    multiply(float* __restrict__ x, const float* __restrict__ y, unsigned n) {
    combine_entries(x, y, n, [](float a, float b) { return a * b; });
}

// x += y: the residual stream, and sums of gradients. 12 bytes an entry.
extern "C" __global__ void __launch_bounds__(kThreads)
    add(float* __restrict__ x, const float* __restrict__ y, unsigned n) {
    combine_entries(x, y, n, [](float a, float b) { return a + b; });
}

// Rounds to bf16, two neighbouring entries to a word. 6 bytes an entry.
extern "C" __global__ void __launch_bounds__(kThreads)
    to_bf16(const float* __restrict__ x, unsigned* __restrict__ y, unsigned n) {
    const unsigned i = first_entry();
    if (i >= n) return;
    const float4 v = *reinterpret_cast<const float4*>(x + i);
    *reinterpret_cast<uint2*>(y + i / 2) = make_uint2(pack_bf16(v.x, v.y), pack_bf16(v.z, v.w));
}

// And back. 6 bytes an entry.
extern "C" __global__ void __launch_bounds__(kThreads)
    from_bf16(const unsigned* __restrict__ x, float* __restrict__ y, unsigned n) {
    const unsigned i = first_entry();
    if (i >= n) return;
    const uint2 v = *reinterpret_cast<const uint2*>(x + i / 2);
    *reinterpret_cast<float4*>(y + i) = make_float4(low_bf16(v.x), high_bf16(v.x), low_bf16(v.y), high_bf16(v.y));
}
