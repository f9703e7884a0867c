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

template <unsigned TOKENS, unsigned VALUES>
__device__ __forceinline__ void abs_top_k(float* __restrict__ x, unsigned char* __restrict__ kept, unsigned features,
                                          unsigned stride, unsigned k) {
    constexpr unsigned kSlices = kThreads / TOKENS;
    SHARED(unsigned, counts, 2 * TOKENS);
    SHARED(unsigned, ties, kSlices * TOKENS);
    const unsigned token = threadIdx.x % TOKENS, slice = threadIdx.x / TOKENS, first = slice * VALUES;
    float* column = x + size_t(first) * stride + blockIdx.x * TOKENS + token;
    unsigned magnitude[VALUES];
#pragma unroll
    for (unsigned j = 0; j < VALUES; ++j) {
        magnitude[j] = first + j < features ? __float_as_uint(column[size_t(j) * stride]) & 0x7fffffffu : 0;
    }
    if (threadIdx.x < 2 * TOKENS) counts[threadIdx.x] = 0;
    __syncthreads();  // the counts are zero before anybody adds
    // Every magnitude reaches 0; what is not there reaches nothing else.
    unsigned least = 0, reached = features;
    for (unsigned pass = 0; pass < 31; ++pass) {
        const unsigned bound = least | 1u << (30 - pass);
        unsigned mine = 0;
#pragma unroll
        for (unsigned j = 0; j < VALUES; ++j) mine += magnitude[j] >= bound;
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
            above += magnitude[j] > least;
            equal += magnitude[j] == least && first + j < features;
        }
        ties[slice * TOKENS + token] = equal;
        if (threadIdx.x < TOKENS) counts[threadIdx.x] = 0;
        __syncthreads();  // the counts are zero, and all ties are known
        if (above) atomicAdd(counts + token, above);
        __syncthreads();  // all have added
        room = k - counts[token];
        for (unsigned i = 0; i < slice; ++i) room -= min(room, ties[i * TOKENS + token]);
    }
    unsigned char* marks = kept + size_t(first) * stride + blockIdx.x * TOKENS + token;
#pragma unroll
    for (unsigned j = 0; j < VALUES; ++j) {
        if (first + j < features) {
            const bool tied = magnitude[j] == least;
            const bool stays = magnitude[j] > least || (tied && room > 0);
            room -= tied && room > 0;
            marks[size_t(j) * stride] = stays;
            if (!stays) column[size_t(j) * stride] = 0.0f;
        }
    }
}

// Up to 256, 1,024 and 4,096 features.
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
