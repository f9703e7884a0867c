// SpMM: Y = start + W X, the product of a linear layer in both directions (the gradient of the input is the same
// product with the transpose of W).
//
//   y[r, t] = start[r, t] + sum over the nonzeros (c, w) of row r, in the order of columns, of w * x[c, t]
//
// W [rows, cols] in CSR, X [cols, tokens], Y [rows, tokens]. Rows of X and Y are `stride` numbers apart, a multiple of
// 64; what lies behind the last token is computed, too. `start` is the bias of the row, or 0 where bias is null; with
// `add`, what Y holds.
//
// Floor: every entry of X and Y once through memory, or nnz * tokens multiply-adds, each with a load from shared
// memory or the cache: on an H100 about 19 TFLOP/s with bf16, 15 with f32.
#include "common.cuh"

// One warp a row, four tokens a lane: the simple version, for shapes whose X does not fit shared memory. Nonzeros are
// pairs (column, bits of the value). A chain of fused multiply-adds in the order of columns: the bits of the CPU engine.
// Blocks of neighbouring rows follow each other, so that their 128 columns of X stay in the cache.
extern "C" __global__ void __launch_bounds__(256)
    spmm_rows_f32(const unsigned* __restrict__ row_ptr, const uint2* __restrict__ pairs,
                  const float* __restrict__ bias, const float* __restrict__ x, float* __restrict__ y, unsigned rows,
                  unsigned stride, unsigned add) {
    const unsigned row = blockIdx.x * (blockDim.x / kWarpSize) + warp_of_thread();
    const unsigned token = (blockIdx.y * kWarpSize + lane_of_thread()) * 4;
    if (row >= rows || token >= stride) return;
    float4* out = reinterpret_cast<float4*>(y + size_t(row) * stride + token);
    const float b = bias ? bias[row] : 0.0f;
    float4 sum = add ? *out : make_float4(b, b, b, b);
    for (unsigned i = row_ptr[row]; i < row_ptr[row + 1]; ++i) {
        const uint2 pair = pairs[i];
        const float w = __uint_as_float(pair.y);
        const float4 v = *reinterpret_cast<const float4*>(x + size_t(pair.x) * stride + token);
        sum.x = __fmaf_rn(w, v.x, sum.x);
        sum.y = __fmaf_rn(w, v.y, sum.y);
        sum.z = __fmaf_rn(w, v.z, sum.z);
        sum.w = __fmaf_rn(w, v.w, sum.w);
    }
    *out = sum;
}

// The tile-resident version. A block keeps a tile of X, all columns by 8 * LANES tokens, in shared memory; every warp
// works on 32 / LANES rows at a time, and a lane on 8 tokens, for which a nonzero is one load of 16 bytes. Rows come
// in the order `order`, longest first, so that those of a warp are about as long. Nonzeros are words, column in the
// lower half and value in bf16 in the upper, rows padded to a multiple of four with zeros: four arrive in one load.
template <unsigned LANES>
__device__ __forceinline__ void spmm_tile(const unsigned* __restrict__ row_ptr, const unsigned* __restrict__ pairs,
                                          const unsigned* __restrict__ order, const float* __restrict__ bias,
                                          const unsigned* __restrict__ x, unsigned* __restrict__ y, unsigned rows,
                                          unsigned cols, unsigned stride, unsigned add) {
    constexpr unsigned kWords = 4 * LANES;  // of a row of the tile, two tokens each
    DYNAMIC_SHARED(uint4, tile);            // [cols][LANES]
    const unsigned row_words = stride / 2, first = blockIdx.x * kWords;
    for (unsigned i = threadIdx.x; i < cols * LANES; i += blockDim.x) {
        const unsigned column = i / LANES, part = i % LANES;
        tile[i] = *reinterpret_cast<const uint4*>(x + size_t(column) * row_words + first + part * 4);
    }
    __syncthreads();  // the tile is whole before anybody reads it
    const unsigned part = threadIdx.x % LANES;
    for (unsigned i = threadIdx.x / LANES; i < rows; i += blockDim.x / LANES) {
        const unsigned row = order[i];
        uint4* out = reinterpret_cast<uint4*>(y + size_t(row) * row_words + first + part * 4);
        float sum[8];
        if (add) {
            const uint4 old = *out;
            const unsigned words[4] = {old.x, old.y, old.z, old.w};
#pragma unroll
            for (unsigned j = 0; j < 4; ++j) {
                sum[2 * j] = low_bf16(words[j]);
                sum[2 * j + 1] = high_bf16(words[j]);
            }
        } else {
            const float b = bias ? bias[row] : 0.0f;
#pragma unroll
            for (unsigned j = 0; j < 8; ++j) sum[j] = b;
        }
        for (unsigned k = row_ptr[row]; k < row_ptr[row + 1]; k += 4) {
            const uint4 four = *reinterpret_cast<const uint4*>(pairs + k);
            const unsigned pair[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
            for (unsigned j = 0; j < 4; ++j) {
                const float w = high_bf16(pair[j]);
                const uint4 v = tile[(pair[j] & 0xffffu) * LANES + part];
                const unsigned words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
                for (unsigned m = 0; m < 4; ++m) {
                    sum[2 * m] = __fmaf_rn(w, low_bf16(words[m]), sum[2 * m]);
                    sum[2 * m + 1] = __fmaf_rn(w, high_bf16(words[m]), sum[2 * m + 1]);
                }
            }
        }
        *out = make_uint4(pack_bf16(sum[0], sum[1]), pack_bf16(sum[2], sum[3]), pack_bf16(sum[4], sum[5]),
                          pack_bf16(sum[6], sum[7]));
    }
}

// 64 tokens a tile: 128 bytes of shared memory a column.
extern "C" __global__ void __launch_bounds__(512)
    spmm_tile64_bf16(const unsigned* __restrict__ row_ptr, const unsigned* __restrict__ pairs,
                     const unsigned* __restrict__ order, const float* __restrict__ bias,
                     const unsigned* __restrict__ x, unsigned* __restrict__ y, unsigned rows, unsigned cols,
                     unsigned stride, unsigned add) {
    spmm_tile<8>(row_ptr, pairs, order, bias, x, y, rows, cols, stride, add);
}

// 16 tokens a tile, for up to 7,000 columns.
extern "C" __global__ void __launch_bounds__(512)
    spmm_tile16_bf16(const unsigned* __restrict__ row_ptr, const unsigned* __restrict__ pairs,
                     const unsigned* __restrict__ order, const float* __restrict__ bias,
                     const unsigned* __restrict__ x, unsigned* __restrict__ y, unsigned rows, unsigned cols,
                     unsigned stride, unsigned add) {
    spmm_tile<2>(row_ptr, pairs, order, bias, x, y, rows, cols, stride, add);
}
