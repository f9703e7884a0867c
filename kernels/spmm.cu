// SpMM: Y = start + W X, the product of a linear layer in both directions (the gradient of the input is the same
// product with the transpose of W).
//
//   y[r, t] = start[r, t] + sum over the nonzeros (c, w) of row r, in the order of columns, of w * x[c, t]
//
// W [rows, cols] in CSR, X [cols, tokens] in f32 or bf16, Y [rows, tokens] in f32. Rows of X and Y are `stride` numbers
// apart, a multiple of 128; what lies behind the last token is computed, too. `start` is the bias of the row, or 0 where
// bias is null. Nonzeros are pairs (column, bits of the value). A chain of fused
// multiply-adds in the order of columns: the bits of the CPU engine.
//
// Floor: every entry of X and Y once through memory, or nnz * tokens multiply-adds, each with a load from shared
// memory or the cache: on an H100 about 19 TFLOP/s with bf16, 15 with f32.
#include "common.cuh"

// Sixteen bytes of a row of X: four tokens in f32, eight in bf16.
struct F32 {
    static constexpr unsigned kTokens = 4;
    static __device__ __forceinline__ void widen(const uint4& v, float* x) {
        x[0] = __uint_as_float(v.x);
        x[1] = __uint_as_float(v.y);
        x[2] = __uint_as_float(v.z);
        x[3] = __uint_as_float(v.w);
    }
};
struct Bf16 {
    static constexpr unsigned kTokens = 8;
    static __device__ __forceinline__ void widen(const uint4& v, float* x) {
        const unsigned words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (unsigned i = 0; i < 4; ++i) {
            x[2 * i] = low_bf16(words[i]);
            x[2 * i + 1] = high_bf16(words[i]);
        }
    }
};

// The tokens of a lane in a row of Y: `x(column)` gives its sixteen bytes of that row of X.
template <class Number, class Read>
__device__ __forceinline__ void sum_row(const uint2* __restrict__ pairs, unsigned from, unsigned to,
                                        const float* __restrict__ bias, unsigned row, float* __restrict__ y, Read x) {
    constexpr unsigned kTokens = Number::kTokens;
    float4* out = reinterpret_cast<float4*>(y);
    float sum[kTokens];
    const float b = bias ? bias[row] : 0.0f;
#pragma unroll
    for (unsigned i = 0; i < kTokens; ++i) sum[i] = b;
#pragma unroll 4
    for (unsigned i = from; i < to; ++i) {
        const uint2 pair = pairs[i];
        const float w = __uint_as_float(pair.y);
        float v[kTokens];
        Number::widen(x(pair.x), v);
#pragma unroll
        for (unsigned j = 0; j < kTokens; ++j) sum[j] = __fmaf_rn(w, v[j], sum[j]);
    }
#pragma unroll
    for (unsigned i = 0; i < kTokens / 4; ++i) {
        out[i] = make_float4(sum[4 * i], sum[4 * i + 1], sum[4 * i + 2], sum[4 * i + 3]);
    }
}

// One warp a row, sixteen bytes of it a lane: the simple version, for shapes whose X does not fit shared memory.
// Blocks of neighbouring rows follow each other, so that their columns of X stay in the cache.
// Grid: rows in blocks of 8, tokens in blocks of 32 lanes.
template <class Number>
__device__ __forceinline__ void rows_kernel(const unsigned* __restrict__ row_ptr, const uint2* __restrict__ pairs,
                                            const float* __restrict__ bias, const uint4* __restrict__ x,
                                            float* __restrict__ y, unsigned rows, unsigned stride) {
    const unsigned row = blockIdx.x * (blockDim.x / kWarpSize) + warp_of_thread();
    const unsigned vector = blockIdx.y * kWarpSize + lane_of_thread(), row_vectors = stride / Number::kTokens;
    if (row >= rows || vector >= row_vectors) return;
    sum_row<Number>(pairs, row_ptr[row], row_ptr[row + 1], bias, row,
                    y + size_t(row) * stride + vector * Number::kTokens,
                    [=](unsigned column) { return x[size_t(column) * row_vectors + vector]; });
}

// The tile-resident version. A block keeps a tile of X in shared memory, all columns by LANES times sixteen bytes, and
// LANES threads work on a row. Rows come in the order `order`, longest first, so that those of a warp are about as
// long. Grid: tiles.
template <class Number, unsigned LANES>
__device__ __forceinline__ void tile_kernel(const unsigned* __restrict__ row_ptr, const uint2* __restrict__ pairs,
                                            const unsigned* __restrict__ order, const float* __restrict__ bias,
                                            const uint4* __restrict__ x, float* __restrict__ y, unsigned rows,
                                            unsigned cols, unsigned stride) {
    DYNAMIC_SHARED(uint4, tile);  // [cols][LANES]
    const unsigned row_vectors = stride / Number::kTokens, first = blockIdx.x * LANES;
    for (unsigned i = threadIdx.x; i < cols * LANES; i += blockDim.x) {
        tile[i] = x[size_t(i / LANES) * row_vectors + first + i % LANES];
    }
    __syncthreads();  // the tile is whole before anybody reads it
    const unsigned part = threadIdx.x % LANES;
    for (unsigned i = threadIdx.x / LANES; i < rows; i += blockDim.x / LANES) {
        const unsigned row = order[i];
        sum_row<Number>(pairs, row_ptr[row], row_ptr[row + 1], bias, row,
                        y + size_t(row) * stride + (first + part) * Number::kTokens,
                        [=](unsigned column) { return tile[column * LANES + part]; });
    }
}

extern "C" __global__ void __launch_bounds__(256)
    spmm_rows_f32(const unsigned* __restrict__ row_ptr, const uint2* __restrict__ pairs,
                  const float* __restrict__ bias, const uint4* __restrict__ x, float* __restrict__ y, unsigned rows,
                  unsigned stride) {
    rows_kernel<F32>(row_ptr, pairs, bias, x, y, rows, stride);
}
extern "C" __global__ void __launch_bounds__(256)
    spmm_rows_bf16(const unsigned* __restrict__ row_ptr, const uint2* __restrict__ pairs,
                   const float* __restrict__ bias, const uint4* __restrict__ x, float* __restrict__ y, unsigned rows,
                   unsigned stride) {
    rows_kernel<Bf16>(row_ptr, pairs, bias, x, y, rows, stride);
}

// 128 bytes of shared memory a column: 32 tokens a tile in f32, 64 in bf16.
extern "C" __global__ void __launch_bounds__(512)
    spmm_tile_f32(const unsigned* __restrict__ row_ptr, const uint2* __restrict__ pairs,
                  const unsigned* __restrict__ order, const float* __restrict__ bias, const uint4* __restrict__ x,
                  float* __restrict__ y, unsigned rows, unsigned cols, unsigned stride) {
    tile_kernel<F32, 8>(row_ptr, pairs, order, bias, x, y, rows, cols, stride);
}
extern "C" __global__ void __launch_bounds__(512)
    spmm_tile_bf16(const unsigned* __restrict__ row_ptr, const uint2* __restrict__ pairs,
                   const unsigned* __restrict__ order, const float* __restrict__ bias, const uint4* __restrict__ x,
                   float* __restrict__ y, unsigned rows, unsigned cols, unsigned stride) {
    tile_kernel<Bf16, 8>(row_ptr, pairs, order, bias, x, y, rows, cols, stride);
}

// 32 bytes a column, for four times as many columns: 8 tokens a tile in f32, 16 in bf16.
extern "C" __global__ void __launch_bounds__(512)
    spmm_narrow_f32(const unsigned* __restrict__ row_ptr, const uint2* __restrict__ pairs,
                    const unsigned* __restrict__ order, const float* __restrict__ bias, const uint4* __restrict__ x,
                    float* __restrict__ y, unsigned rows, unsigned cols, unsigned stride) {
    tile_kernel<F32, 2>(row_ptr, pairs, order, bias, x, y, rows, cols, stride);
}
extern "C" __global__ void __launch_bounds__(512)
    spmm_narrow_bf16(const unsigned* __restrict__ row_ptr, const uint2* __restrict__ pairs,
                     const unsigned* __restrict__ order, const float* __restrict__ bias, const uint4* __restrict__ x,
                     float* __restrict__ y, unsigned rows, unsigned cols, unsigned stride) {
    tile_kernel<Bf16, 2>(row_ptr, pairs, order, bias, x, y, rows, cols, stride);
}
