// AbsTopK: of every token, the k entries of largest magnitude stay and the rest become zero; of equal magnitudes the
// lower feature stays. `kept` is 1 where an entry stayed and 0 elsewhere, which is where the gradient flows.
//
//   x [features, tokens] in place, kept [features, tokens]; rows `stride` apart, a multiple of 32.
//
// A block has TOKENS tokens with all their features in registers, VALUES in a row of them a thread. The k-th magnitude
// is found bit by bit: the largest number that k magnitudes reach. That is at most 31 counts of numbers in registers,
// and takes less time than the memory.
//
// Floor: 9 bytes an entry through memory, 4 read and 5 written.
#include "common.cuh"

constexpr unsigned kThreads = 1024;

__device__ __forceinline__ unsigned magnitude(float x) { return __float_as_uint(x) & 0x7fffffffu; }

// Which entries stay: those above `least`, and of those that are equal to it the first `room` of this thread.
struct Cut {
    unsigned least, room;
};

// `value` holds the entries first .. first + VALUES of a token; those beyond the last feature are 0.
template <unsigned TOKENS, unsigned VALUES>
__device__ __forceinline__ Cut find_cut(const float (&value)[VALUES], unsigned features, unsigned k) {
    constexpr unsigned kSlices = kThreads / TOKENS;
    SHARED(unsigned, counts, 2 * TOKENS);
    SHARED(unsigned, ties, kSlices * TOKENS);
    const unsigned token = threadIdx.x % TOKENS, slice = threadIdx.x / TOKENS, first = slice * VALUES;
    if (threadIdx.x < 2 * TOKENS) counts[threadIdx.x] = 0;
    __syncthreads();  // the counts are zero before anybody adds
    // Every magnitude reaches 0; what is not there reaches nothing else.
    unsigned least = 0, reached = features;
    for (unsigned pass = 0; pass < 31; ++pass) {
        const unsigned bound = least | 1u << (30 - pass);
        unsigned mine = 0;
#pragma unroll
        for (unsigned j = 0; j < VALUES; ++j) mine += magnitude(value[j]) >= bound;
        // Two sets of counts in turn, so that one can be made zero while the other is in use.
        unsigned* count = counts + pass % 2 * TOKENS;
        if (mine) atomicAdd(count + token, mine);
        __syncthreads();  // all have added
        const unsigned total = count[token];
        if (total >= k) {
            least = bound;
            reached = total;
        }
        if (threadIdx.x < TOKENS) counts[(pass + 1) % 2 * TOKENS + threadIdx.x] = 0;
        // Every thread of a token sees the same total, so that all agree on whether every token is done.
        const bool done = __syncthreads_and(reached == k);  // also: all have read, and the other counts are zero
        if (done) break;
    }
    // More than k reach the threshold: those that have it tie, and the first of them stay.
    unsigned room = 0xffffffffu;
    if (__syncthreads_or(reached != k)) {
        unsigned above = 0, equal = 0;
#pragma unroll
        for (unsigned j = 0; j < VALUES; ++j) {
            above += magnitude(value[j]) > least;
            equal += magnitude(value[j]) == least && first + j < features;
        }
        ties[slice * TOKENS + token] = equal;
        if (threadIdx.x < TOKENS) counts[threadIdx.x] = 0;
        __syncthreads();  // the counts are zero, and all ties are known
        if (above) atomicAdd(counts + token, above);
        __syncthreads();  // all have added
        room = k - counts[token];
        for (unsigned i = 0; i < slice; ++i) room -= min(room, ties[i * TOKENS + token]);
    }
    return {least, room};
}

// Tells `write` of every entry of this thread whether it stays.
template <unsigned VALUES, class Write>
__device__ __forceinline__ void keep_entries(const float (&value)[VALUES], Cut cut, unsigned first, unsigned features,
                                             Write write) {
#pragma unroll
    for (unsigned j = 0; j < VALUES; ++j) {
        if (first + j < features) {
            const bool tied = magnitude(value[j]) == cut.least && cut.room > 0;
            cut.room -= tied;
            write(j, magnitude(value[j]) > cut.least || tied);
        }
    }
}

template <unsigned TOKENS, unsigned VALUES>
__device__ __forceinline__ void abs_top_k(float* __restrict__ x, unsigned char* __restrict__ kept, unsigned features,
                                          unsigned stride, unsigned k) {
    const unsigned first = threadIdx.x / TOKENS * VALUES;
    const size_t begin = size_t(first) * stride + blockIdx.x * TOKENS + threadIdx.x % TOKENS;
    float value[VALUES];
#pragma unroll
    for (unsigned j = 0; j < VALUES; ++j) value[j] = first + j < features ? x[begin + size_t(j) * stride] : 0.0f;
    const Cut cut = find_cut<TOKENS, VALUES>(value, features, k);
    keep_entries<VALUES>(value, cut, first, features, [=](unsigned j, bool stays) {
        kept[begin + size_t(j) * stride] = stays;
        if (!stays) x[begin + size_t(j) * stride] = 0.0f;
    });
}

// RMSNorm and AbsTopK of what it gives, while the token is in registers: see norm.cu.
// Floor: 9 bytes an entry, where the two apart take 17.
template <unsigned TOKENS, unsigned VALUES>
__device__ __forceinline__ void norm_abs_top_k(const float* __restrict__ x, const float* __restrict__ gain,
                                               float* __restrict__ y, unsigned char* __restrict__ kept,
                                               float* __restrict__ mean, float* __restrict__ scale, unsigned features,
                                               unsigned stride, unsigned k, float eps) {
    constexpr unsigned kSlices = kThreads / TOKENS;
    SHARED(float, parts, kThreads);
    const unsigned token = threadIdx.x % TOKENS, slice = threadIdx.x / TOKENS, first = slice * VALUES;
    const size_t begin = size_t(first) * stride + blockIdx.x * TOKENS + token;
    float value[VALUES];
    float square = 0.0f;
#pragma unroll
    for (unsigned j = 0; j < VALUES; ++j) {
        value[j] = first + j < features ? x[begin + size_t(j) * stride] : 0.0f;
        square = __fmaf_rn(value[j], value[j], square);
    }
    parts[threadIdx.x] = square;
    __syncthreads();  // the sums of all slices are there
    square = 0.0f;
    for (unsigned i = 0; i < kSlices; ++i) square += parts[i * TOKENS + token];
    const float s = 1.0f / sqrtf(square / features + eps);
    if (slice == 0) {
        mean[blockIdx.x * TOKENS + token] = 0.0f;
        scale[blockIdx.x * TOKENS + token] = s;
    }
#pragma unroll
    for (unsigned j = 0; j < VALUES; ++j) value[j] = first + j < features ? value[j] * s * gain[first + j] : 0.0f;
    const Cut cut = find_cut<TOKENS, VALUES>(value, features, k);
    keep_entries<VALUES>(value, cut, first, features, [&](unsigned j, bool stays) {
        kept[begin + size_t(j) * stride] = stays;
        y[begin + size_t(j) * stride] = stays ? value[j] : 0.0f;
    });
}

// By the number of features there is room for. Grid: tokens in blocks of TOKENS.
extern "C" __global__ void __launch_bounds__(kThreads)
    abs_top_k_256(float* __restrict__ x, unsigned char* __restrict__ kept, unsigned features, unsigned stride,
                  unsigned k) {
    abs_top_k<32, 8>(x, kept, features, stride, k);
}
extern "C" __global__ void __launch_bounds__(kThreads)
    abs_top_k_1024(float* __restrict__ x, unsigned char* __restrict__ kept, unsigned features, unsigned stride,
                   unsigned k) {
    abs_top_k<32, 32>(x, kept, features, stride, k);
}
extern "C" __global__ void __launch_bounds__(kThreads)
    abs_top_k_4096(float* __restrict__ x, unsigned char* __restrict__ kept, unsigned features, unsigned stride,
                   unsigned k) {
    abs_top_k<8, 32>(x, kept, features, stride, k);
}
extern "C" __global__ void __launch_bounds__(kThreads)
    abs_top_k_16384(float* __restrict__ x, unsigned char* __restrict__ kept, unsigned features, unsigned stride,
                    unsigned k) {
    abs_top_k<2, 32>(x, kept, features, stride, k);
}
// More values a thread would not fit in registers beside the rest.
extern "C" __global__ void __launch_bounds__(kThreads)
    norm_abs_top_k_256(const float* __restrict__ x, const float* __restrict__ gain, float* __restrict__ y,
                       unsigned char* __restrict__ kept, float* __restrict__ mean, float* __restrict__ scale,
                       unsigned features, unsigned stride, unsigned k, float eps) {
    norm_abs_top_k<32, 8>(x, gain, y, kept, mean, scale, features, stride, k, eps);
}
extern "C" __global__ void __launch_bounds__(kThreads)
    norm_abs_top_k_1024(const float* __restrict__ x, const float* __restrict__ gain, float* __restrict__ y,
                        unsigned char* __restrict__ kept, float* __restrict__ mean, float* __restrict__ scale,
                        unsigned features, unsigned stride, unsigned k, float eps) {
    norm_abs_top_k<16, 16>(x, gain, y, kept, mean, scale, features, stride, k, eps);
}
extern "C" __global__ void __launch_bounds__(kThreads)
    norm_abs_top_k_2048(const float* __restrict__ x, const float* __restrict__ gain, float* __restrict__ y,
                        unsigned char* __restrict__ kept, float* __restrict__ mean, float* __restrict__ scale,
                        unsigned features, unsigned stride, unsigned k, float eps) {
    norm_abs_top_k<8, 16>(x, gain, y, kept, mean, scale, features, stride, k, eps);
}

// dy <- dy where kept, 0 elsewhere; n entries. Floor: 9 bytes an entry.
extern "C" __global__ void __launch_bounds__(256)
    abs_top_k_backward(const unsigned char* __restrict__ kept, float* __restrict__ dy, unsigned n) {
    const unsigned i = (blockIdx.x * blockDim.x + threadIdx.x) * 4;
    if (i >= n) return;
    const unsigned marks = *reinterpret_cast<const unsigned*>(kept + i);
    float4* at = reinterpret_cast<float4*>(dy + i);
    float4 value = *at;
    if (!(marks & 0x000000ffu)) value.x = 0.0f;
    if (!(marks & 0x0000ff00u)) value.y = 0.0f;
    if (!(marks & 0x00ff0000u)) value.z = 0.0f;
    if (!(marks & 0xff000000u)) value.w = 0.0f;
    *at = value;
}
