// Look-ups of rows by token, and the scatter that is their backward: the embedding and the bigram table.
//
// `table [vocabulary, features]`, X [features, tokens] with rows `stride` apart, a multiple of 32.
// Floors: 8 bytes an entry of X through memory (12 where it is added to).
#include "common.cuh"

// x[f, t] = table[token_t, f], or += with `add`. A block moves 32 tokens by 32 features through shared memory, so that
// rows of the table are read and rows of X written side by side. Tokens beyond `tokens` are left as they are.
extern "C" __global__ void __launch_bounds__(256)
    gather_rows(const float* __restrict__ table, const unsigned short* __restrict__ token, float* __restrict__ x,
                unsigned features, unsigned tokens, unsigned stride, unsigned add) {
    SHARED(float, tile, 32 * 33);  // a column more: no two threads of a warp in the same bank
    const unsigned first_token = blockIdx.x * 32, first_feature = blockIdx.y * 32;
    const unsigned inner = threadIdx.x % 32, outer = threadIdx.x / 32;
    for (unsigned i = outer; i < 32; i += 8) {
        const unsigned t = first_token + i, f = first_feature + inner;
        if (t < tokens && f < features) tile[i * 33 + inner] = table[size_t(token[t]) * features + f];
    }
    __syncthreads();  // the tile is whole
    for (unsigned i = outer; i < 32; i += 8) {
        const unsigned t = first_token + inner, f = first_feature + i;
        if (t < tokens && f < features) {
            float* at = x + size_t(f) * stride + t;
            *at = (add ? *at : 0.0f) + tile[inner * 33 + i];
        }
    }
}

// dtable[v, f] += sum of dx[f, t] over the tokens t that are v, in their order: `place[start[v] .. start[v + 1]]` are
// these. One block a row of the table; no atomics. The row `skip` gets nothing (vocabulary or more: none is skipped).
extern "C" __global__ void __launch_bounds__(256)
    scatter_rows(const unsigned* __restrict__ start, const unsigned* __restrict__ place, const float* __restrict__ dx,
                 float* __restrict__ dtable, unsigned features, unsigned stride, unsigned skip) {
    const unsigned v = blockIdx.x, first = start[v], last = start[v + 1];
    if (v == skip || first == last) return;
    for (unsigned f = threadIdx.x; f < features; f += blockDim.x) {
        float sum = dtable[size_t(v) * features + f];
        for (unsigned i = first; i < last; ++i) sum += dx[size_t(f) * stride + place[i]];
        dtable[size_t(v) * features + f] = sum;
    }
}
