// Causal softmax attention, per sequence and head, with an optional learned sink (a key of zero value).
//
//   y_q = sum over keys k <= q of p_qk v_k,   p_qk = exp(s_qk) / (sum_j exp(s_qj) + exp(sink)),   s_qk = q.k / sqrt(d)
//
// Q, K, V, Y [n_head * d, tokens], rows `stride` apart; sequences of `seq_len` tokens one after the other. `log_sum`
// [n_head, tokens], rows `stride` apart: the log of the denominator, for backward.
//
// A thread has a query (in the gradients of K and V, a key) with its d channels in registers, or, of large heads, PARTS
// neighbouring threads have a part of the channels each: tokens lie side by side in memory, and what a query meets is
// the same for all threads, so that shared memory hands it out at once. Scores are computed again in backward. Sums
// are in the order of keys or queries: no atomics, the same bits every time.
//
// Floor per query and key: forward 2 d multiply-adds and an exponential, backward 7 d (2 kernels) and two.
#include "common.cuh"

constexpr unsigned kThreads = 64;
constexpr unsigned kTile = 32;  // keys in shared memory

// Copies the `D` channels of up to kTile tokens from `first` on, which end before `end`: tile[token][channel].
template <unsigned D>
__device__ __forceinline__ void load_tile(float* tile, const float* __restrict__ x, unsigned stride, unsigned first,
                                          unsigned end) {
    for (unsigned i = threadIdx.x; i < kTile * D; i += blockDim.x) {
        const unsigned token = i % kTile, channel = i / kTile;
        if (first + token < end) tile[token * D + channel] = x[size_t(channel) * stride + first + token];
    }
}

// `C` channels from shared memory, four at a time: all threads read the same, so that a load is a broadcast.
template <unsigned C>
__device__ __forceinline__ void load_channels(float (&to)[C], const float* from) {
#pragma unroll
    for (unsigned c = 0; c < C; c += 4) {
        const float4 four = *reinterpret_cast<const float4*>(from + c);
        to[c] = four.x;
        to[c + 1] = four.y;
        to[c + 2] = four.z;
        to[c + 3] = four.w;
    }
}

// The product of `C` channels with as many others, summed over the threads that share a query.
template <unsigned PARTS, unsigned C>
__device__ __forceinline__ float dot(const float (&a)[C], const float (&b)[C]) {
    float sum = 0.0f;
#pragma unroll
    for (unsigned c = 0; c < C; ++c) sum = __fmaf_rn(a[c], b[c], sum);
#pragma unroll
    for (unsigned bits = 1; bits < PARTS; bits *= 2) sum += __shfl_xor_sync(kAllLanes, sum, bits);
    return sum;
}

// Grid: queries of a sequence in blocks of kThreads / PARTS, heads, sequences.
template <unsigned D, unsigned PARTS>
__device__ __forceinline__ void forward(const float* __restrict__ q, const float* __restrict__ k,
                                        const float* __restrict__ v, const float* __restrict__ sink,
                                        float* __restrict__ y, float* __restrict__ log_sum, unsigned seq_len,
                                        unsigned stride) {
    SHARED(float, keys, kTile * D);
    SHARED(float, values, kTile * D);
    const unsigned head = blockIdx.y, begin = blockIdx.z * seq_len, end = begin + seq_len;
    constexpr unsigned C = D / PARTS, kBlock = kThreads / PARTS;
    const unsigned first_query = begin + blockIdx.x * kBlock, query = first_query + threadIdx.x / PARTS;
    const unsigned channel = threadIdx.x % PARTS * C;
    const unsigned last_query = min(first_query + kBlock, end) - 1;
    const bool there = query < end;
    const size_t head_row = size_t(head) * D * stride, mine_row = head_row + size_t(channel) * stride;
    const float scale = 1.0f / sqrtf(float(D));
    float mine[C], sum[C];
#pragma unroll
    for (unsigned c = 0; c < C; ++c) {
        mine[c] = there ? q[mine_row + size_t(c) * stride + query] * scale : 0.0f;
        sum[c] = 0.0f;
    }
    // The running maximum starts at the sink and the running sum at its share.
    float largest = sink ? sink[head] : -INFINITY, total = sink ? 1.0f : 0.0f;
    for (unsigned first = begin; first <= last_query; first += kTile) {
        __syncthreads();  // the tile before has been read
        load_tile<D>(keys, k + head_row, stride, first, end);
        load_tile<D>(values, v + head_row, stride, first, end);
        __syncthreads();  // this one is there
        // All threads of a warp meet in the product, those too that do not see the key.
        const unsigned count = min(kTile, last_query + 1 - first);
#pragma unroll 2
        for (unsigned i = 0; i < count; ++i) {
            float key[C], value[C];
            load_channels(key, keys + i * D + channel);
            const float score = dot<PARTS>(mine, key);
            if (!there || first + i > query) continue;
            if (score > largest) {
                const float shrink = expf(largest - score);
                total *= shrink;
#pragma unroll
                for (unsigned c = 0; c < C; ++c) sum[c] *= shrink;
                largest = score;
            }
            const float p = expf(score - largest);
            total += p;
            load_channels(value, values + i * D + channel);
#pragma unroll
            for (unsigned c = 0; c < C; ++c) sum[c] = __fmaf_rn(p, value[c], sum[c]);
        }
    }
    if (!there) return;
#pragma unroll
    for (unsigned c = 0; c < C; ++c) y[mine_row + size_t(c) * stride + query] = sum[c] / total;
    if (channel == 0) log_sum[size_t(head) * stride + query] = largest + logf(total);
}

// inner[head, t] = sum over the channels of the head of dy * y: what the gradient of a score has in common for all keys
// of a query. Grid: tokens in blocks of 256, heads.
extern "C" __global__ void __launch_bounds__(256)
    attention_inner(const float* __restrict__ y, const float* __restrict__ dy, float* __restrict__ inner, unsigned d_head,
                    unsigned tokens, unsigned stride) {
    const unsigned t = blockIdx.x * blockDim.x + threadIdx.x;
    if (t >= tokens) return;
    float sum = 0.0f;
    for (unsigned d = 0; d < d_head; ++d) {
        const size_t at = (size_t(blockIdx.y) * d_head + d) * stride + t;
        sum = __fmaf_rn(dy[at], y[at], sum);
    }
    inner[size_t(blockIdx.y) * stride + t] = sum;
}

// dq_q = sum over keys of ds_qk k_k / sqrt(d),   ds_qk = p_qk (dy_q . v_k - inner_q).
template <unsigned D, unsigned PARTS>
__device__ __forceinline__ void backward_queries(const float* __restrict__ q, const float* __restrict__ k,
                                                 const float* __restrict__ v, const float* __restrict__ dy,
                                                 const float* __restrict__ log_sum, const float* __restrict__ inner,
                                                 float* __restrict__ dq, unsigned seq_len, unsigned stride) {
    SHARED(float, keys, kTile * D);
    SHARED(float, values, kTile * D);
    const unsigned head = blockIdx.y, begin = blockIdx.z * seq_len, end = begin + seq_len;
    constexpr unsigned C = D / PARTS, kBlock = kThreads / PARTS;
    const unsigned first_query = begin + blockIdx.x * kBlock, query = first_query + threadIdx.x / PARTS;
    const unsigned channel = threadIdx.x % PARTS * C;
    const unsigned last_query = min(first_query + kBlock, end) - 1;
    const bool there = query < end;
    const size_t head_row = size_t(head) * D * stride, mine_row = head_row + size_t(channel) * stride;
    const float scale = 1.0f / sqrtf(float(D));
    float mine[C], dmine[C], sum[C];
#pragma unroll
    for (unsigned c = 0; c < C; ++c) {
        const size_t at = mine_row + size_t(c) * stride + query;
        mine[c] = there ? q[at] * scale : 0.0f;
        dmine[c] = there ? dy[at] : 0.0f;
        sum[c] = 0.0f;
    }
    const float log_total = there ? log_sum[size_t(head) * stride + query] : 0.0f;
    const float common = there ? inner[size_t(head) * stride + query] : 0.0f;
    for (unsigned first = begin; first <= last_query; first += kTile) {
        __syncthreads();  // the tile before has been read
        load_tile<D>(keys, k + head_row, stride, first, end);
        load_tile<D>(values, v + head_row, stride, first, end);
        __syncthreads();  // this one is there
        const unsigned count = min(kTile, last_query + 1 - first);
#pragma unroll 2
        for (unsigned i = 0; i < count; ++i) {
            float key[C], value[C];
            load_channels(key, keys + i * D + channel);
            load_channels(value, values + i * D + channel);
            const float score = dot<PARTS>(mine, key), dp = dot<PARTS>(dmine, value);
            if (!there || first + i > query) continue;
            const float ds = expf(score - log_total) * (dp - common) * scale;
#pragma unroll
            for (unsigned c = 0; c < C; ++c) sum[c] = __fmaf_rn(ds, key[c], sum[c]);
        }
    }
    if (!there) return;
#pragma unroll
    for (unsigned c = 0; c < C; ++c) dq[mine_row + size_t(c) * stride + query] = sum[c];
}

// dk_k = sum over queries q >= k of ds_qk q_q / sqrt(d),   dv_k = sum of p_qk dy_q. A thread has a key.
template <unsigned D, unsigned PARTS>
__device__ __forceinline__ void backward_keys(const float* __restrict__ q, const float* __restrict__ k,
                                              const float* __restrict__ v, const float* __restrict__ dy,
                                              const float* __restrict__ log_sum, const float* __restrict__ inner,
                                              float* __restrict__ dk, float* __restrict__ dv, unsigned seq_len,
                                              unsigned stride) {
    SHARED(float, queries, kTile * D);
    SHARED(float, gradients, kTile * D);
    SHARED(float, of_query, 2 * kTile);
    const unsigned head = blockIdx.y, begin = blockIdx.z * seq_len, end = begin + seq_len;
    constexpr unsigned C = D / PARTS, kBlock = kThreads / PARTS;
    const unsigned first_key = begin + blockIdx.x * kBlock, key = first_key + threadIdx.x / PARTS;
    const unsigned channel = threadIdx.x % PARTS * C;
    const bool there = key < end;
    const size_t head_row = size_t(head) * D * stride, mine_row = head_row + size_t(channel) * stride;
    const float scale = 1.0f / sqrtf(float(D));
    float mine[C], value[C], dmine[C], dvalue[C];
#pragma unroll
    for (unsigned c = 0; c < C; ++c) {
        const size_t at = mine_row + size_t(c) * stride + key;
        mine[c] = there ? k[at] * scale : 0.0f;
        value[c] = there ? v[at] : 0.0f;
        dmine[c] = 0.0f;
        dvalue[c] = 0.0f;
    }
    for (unsigned first = first_key; first < end; first += kTile) {
        __syncthreads();  // the tile before has been read
        load_tile<D>(queries, q + head_row, stride, first, end);
        load_tile<D>(gradients, dy + head_row, stride, first, end);
        if (threadIdx.x < kTile && first + threadIdx.x < end) {
            of_query[threadIdx.x] = log_sum[size_t(head) * stride + first + threadIdx.x];
            of_query[kTile + threadIdx.x] = inner[size_t(head) * stride + first + threadIdx.x];
        }
        __syncthreads();  // this one is there
        const unsigned count = min(kTile, end - first);
#pragma unroll 2
        for (unsigned i = 0; i < count; ++i) {
            float query[C], gradient[C];
            load_channels(query, queries + i * D + channel);
            load_channels(gradient, gradients + i * D + channel);
            const float score = dot<PARTS>(mine, query), dp = dot<PARTS>(value, gradient);
            if (!there || first + i < key) continue;
            const float p = expf(score - of_query[i]);
            const float ds = p * (dp - of_query[kTile + i]) * scale;
#pragma unroll
            for (unsigned c = 0; c < C; ++c) {
                dmine[c] = __fmaf_rn(ds, query[c], dmine[c]);
                dvalue[c] = __fmaf_rn(p, gradient[c], dvalue[c]);
            }
        }
    }
    if (!there) return;
#pragma unroll
    for (unsigned c = 0; c < C; ++c) {
        dk[mine_row + size_t(c) * stride + key] = dmine[c];
        dv[mine_row + size_t(c) * stride + key] = dvalue[c];
    }
}

// dsink[head] -= sum over tokens of exp(sink - log_sum) * inner. One block a head.
extern "C" __global__ void __launch_bounds__(256)
    attention_sink_gradient(const float* __restrict__ sink, const float* __restrict__ log_sum,
                            const float* __restrict__ inner, float* __restrict__ dsink, unsigned tokens,
                            unsigned stride) {
    SHARED(float, parts, 8);
    float sum = 0.0f;
    for (unsigned t = threadIdx.x; t < tokens; t += blockDim.x) {
        const size_t at = size_t(blockIdx.x) * stride + t;
        sum = __fmaf_rn(expf(sink[blockIdx.x] - log_sum[at]), inner[at], sum);
    }
    sum = block_sum(sum, parts);
    if (threadIdx.x == 0) dsink[blockIdx.x] -= sum;
}

// The kernels by size of a head.
extern "C" __global__ void __launch_bounds__(kThreads)
    attention_8(const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v,
                const float* __restrict__ sink, float* __restrict__ y, float* __restrict__ log_sum, unsigned seq_len,
                unsigned stride) {
    forward<8, 1>(q, k, v, sink, y, log_sum, seq_len, stride);
}
extern "C" __global__ void __launch_bounds__(kThreads)
    attention_16(const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v,
                 const float* __restrict__ sink, float* __restrict__ y, float* __restrict__ log_sum, unsigned seq_len,
                 unsigned stride) {
    forward<16, 1>(q, k, v, sink, y, log_sum, seq_len, stride);
}
extern "C" __global__ void __launch_bounds__(kThreads)
    attention_32(const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v,
                 const float* __restrict__ sink, float* __restrict__ y, float* __restrict__ log_sum, unsigned seq_len,
                 unsigned stride) {
    forward<32, 1>(q, k, v, sink, y, log_sum, seq_len, stride);
}
extern "C" __global__ void __launch_bounds__(kThreads)
    attention_64(const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v,
                 const float* __restrict__ sink, float* __restrict__ y, float* __restrict__ log_sum, unsigned seq_len,
                 unsigned stride) {
    forward<64, 2>(q, k, v, sink, y, log_sum, seq_len, stride);
}
extern "C" __global__ void __launch_bounds__(kThreads)
    attention_backward_queries_8(const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v,
                                 const float* __restrict__ dy, const float* __restrict__ log_sum,
                                 const float* __restrict__ inner, float* __restrict__ dq, unsigned seq_len,
                                 unsigned stride) {
    backward_queries<8, 1>(q, k, v, dy, log_sum, inner, dq, seq_len, stride);
}
extern "C" __global__ void __launch_bounds__(kThreads)
    attention_backward_queries_16(const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v,
                                  const float* __restrict__ dy, const float* __restrict__ log_sum,
                                  const float* __restrict__ inner, float* __restrict__ dq, unsigned seq_len,
                                  unsigned stride) {
    backward_queries<16, 1>(q, k, v, dy, log_sum, inner, dq, seq_len, stride);
}
extern "C" __global__ void __launch_bounds__(kThreads)
    attention_backward_queries_32(const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v,
                                  const float* __restrict__ dy, const float* __restrict__ log_sum,
                                  const float* __restrict__ inner, float* __restrict__ dq, unsigned seq_len,
                                  unsigned stride) {
    backward_queries<32, 2>(q, k, v, dy, log_sum, inner, dq, seq_len, stride);
}
extern "C" __global__ void __launch_bounds__(kThreads)
    attention_backward_queries_64(const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v,
                                  const float* __restrict__ dy, const float* __restrict__ log_sum,
                                  const float* __restrict__ inner, float* __restrict__ dq, unsigned seq_len,
                                  unsigned stride) {
    backward_queries<64, 4>(q, k, v, dy, log_sum, inner, dq, seq_len, stride);
}
extern "C" __global__ void __launch_bounds__(kThreads)
    attention_backward_keys_8(const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v,
                              const float* __restrict__ dy, const float* __restrict__ log_sum,
                              const float* __restrict__ inner, float* __restrict__ dk, float* __restrict__ dv,
                              unsigned seq_len, unsigned stride) {
    backward_keys<8, 1>(q, k, v, dy, log_sum, inner, dk, dv, seq_len, stride);
}
extern "C" __global__ void __launch_bounds__(kThreads)
    attention_backward_keys_16(const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v,
                               const float* __restrict__ dy, const float* __restrict__ log_sum,
                               const float* __restrict__ inner, float* __restrict__ dk, float* __restrict__ dv,
                               unsigned seq_len, unsigned stride) {
    backward_keys<16, 1>(q, k, v, dy, log_sum, inner, dk, dv, seq_len, stride);
}
extern "C" __global__ void __launch_bounds__(kThreads)
    attention_backward_keys_32(const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v,
                               const float* __restrict__ dy, const float* __restrict__ log_sum,
                               const float* __restrict__ inner, float* __restrict__ dk, float* __restrict__ dv,
                               unsigned seq_len, unsigned stride) {
    backward_keys<32, 2>(q, k, v, dy, log_sum, inner, dk, dv, seq_len, stride);
}
extern "C" __global__ void __launch_bounds__(kThreads)
    attention_backward_keys_64(const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v,
                               const float* __restrict__ dy, const float* __restrict__ log_sum,
                               const float* __restrict__ inner, float* __restrict__ dk, float* __restrict__ dv,
                               unsigned seq_len, unsigned stride) {
    backward_keys<64, 4>(q, k, v, dy, log_sum, inner, dk, dv, seq_len, stride);
}
