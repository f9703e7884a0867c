// Softmax cross-entropy over the vocabulary, in place.
//
//   loss[t] = log sum_v exp(logits[v, t]) - logits[target_t, t]   in nats
//   logits[v, t] <- factor (softmax_v - [v = target_t])           the gradient of factor * sum_t loss[t]
//
// Logits [vocabulary, tokens], rows `stride` apart, a multiple of 32. Columns from `tokens` on become zero and have no
// loss. A block has 32 tokens; a third pass reads what the first two have left in the second cache.
// Floor: 8 bytes a logit through memory.
#include "common.cuh"

constexpr unsigned kTokens = 32, kSlices = 32;

extern "C" __global__ void __launch_bounds__(kTokens* kSlices)
    cross_entropy(float* __restrict__ logits, const unsigned short* __restrict__ target, float* __restrict__ loss,
                  unsigned vocabulary, unsigned tokens, unsigned stride, float factor) {
    SHARED(float, parts, kTokens * kSlices);
    const unsigned column = threadIdx.x % kTokens, slice = threadIdx.x / kTokens, t = blockIdx.x * kTokens + column;
    float largest = -INFINITY;
    for (unsigned v = slice; v < vocabulary; v += kSlices) largest = fmaxf(largest, logits[size_t(v) * stride + t]);
    parts[threadIdx.x] = largest;
    __syncthreads();  // the largest of every slice are there
    for (unsigned i = 0; i < kSlices; ++i) largest = fmaxf(largest, parts[i * kTokens + column]);
    __syncthreads();  // they have been read
    float sum = 0.0f;
    for (unsigned v = slice; v < vocabulary; v += kSlices) sum += expf(logits[size_t(v) * stride + t] - largest);
    parts[threadIdx.x] = sum;
    __syncthreads();  // the sums of every slice are there
    sum = 0.0f;
    for (unsigned i = 0; i < kSlices; ++i) sum += parts[i * kTokens + column];
    const bool there = t < tokens;
    const unsigned wanted = there ? target[t] : vocabulary;
    const float log_sum = largest + logf(sum);
    if (there && slice == 0) loss[t] = log_sum - logits[size_t(wanted) * stride + t];
    __syncthreads();  // the logit of the target has been read
    for (unsigned v = slice; v < vocabulary; v += kSlices) {
        const size_t at = size_t(v) * stride + t;
        const float p = expf(logits[at] - log_sum) * factor;
        logits[at] = there ? p - (v == wanted ? factor : 0.0f) : 0.0f;
    }
}
