// SDDMM: the gradient of a sparse weight at its nonzeros.
//
//   partial[chunk, i] = sum over the tokens t of the chunk of dy[r, t] * x[c, t]   for the i-th nonzero (r, c)
//   dw[r, c] += partial[0, i] + partial[1, i] + ...
//
// dY [rows, tokens], X [cols, tokens], both f32 or both bf16, rows `stride` apart, a multiple of 128. Numbers behind the
// last token must be zero in dY. Nonzeros are pairs (column, anything); partial [chunks, room]. Sums over chunks are
// kept apart and added in their order, so that the result does not depend on which block is first; no atomics.
//
// Floor: nnz * tokens multiply-adds with a load each from shared memory.
#include "common.cuh"

// The product of sixteen bytes of a row of dY with as many of X: four tokens in f32, eight in bf16.
__device__ __forceinline__ float dot_f32(const uint4& a, const uint4& b) {
    float sum = __uint_as_float(a.x) * __uint_as_float(b.x);
    sum = __fmaf_rn(__uint_as_float(a.y), __uint_as_float(b.y), sum);
    sum = __fmaf_rn(__uint_as_float(a.z), __uint_as_float(b.z), sum);
    return __fmaf_rn(__uint_as_float(a.w), __uint_as_float(b.w), sum);
}
__device__ __forceinline__ float dot_bf16(const uint4& a, const uint4& b) {
    const unsigned as[4] = {a.x, a.y, a.z, a.w}, bs[4] = {b.x, b.y, b.z, b.w};
    float sum = 0.0f;
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
        sum = __fmaf_rn(low_bf16(as[i]), low_bf16(bs[i]), sum);
        sum = __fmaf_rn(high_bf16(as[i]), high_bf16(bs[i]), sum);
    }
    return sum;
}

// One warp a row of dY, which stays in the first cache while the nonzeros of the row are gone through: for shapes whose
// X does not fit shared memory. Tokens in blocks of `block` vectors of sixteen bytes; chunk after chunk of them.
// Grid: rows in blocks of 8, chunks.
template <class Dot>
__device__ __forceinline__ void rows_kernel(const unsigned* __restrict__ row_ptr, const uint2* __restrict__ pairs,
                                            const uint4* __restrict__ dy, const uint4* __restrict__ x,
                                            float* __restrict__ partial, unsigned rows, unsigned room,
                                            unsigned row_vectors, Dot dot) {
    const unsigned row = blockIdx.x * (blockDim.x / kWarpSize) + warp_of_thread();
    if (row >= rows) return;
    const unsigned chunk = (row_vectors + gridDim.y - 1) / gridDim.y;
    const unsigned first = min(blockIdx.y * chunk, row_vectors), last = min(first + chunk, row_vectors);
    const uint4* dy_row = dy + size_t(row) * row_vectors;
    for (unsigned i = row_ptr[row]; i < row_ptr[row + 1]; ++i) {
        const uint4* x_row = x + size_t(pairs[i].x) * row_vectors;
        float sum = 0.0f;
        for (unsigned v = first + lane_of_thread(); v < last; v += kWarpSize) sum += dot(dy_row[v], x_row[v]);
        sum = warp_sum(sum);
        if (lane_of_thread() == 0) partial[size_t(blockIdx.y) * room + i] = sum;
    }
}

// The tile-resident version: a block keeps a tile of X in shared memory, all columns by eight vectors; eight lanes work
// on a row of dY, whose vectors they hold. A block goes from tile to tile of its chunk and adds to what it wrote before.
// Rows come in the order `order`, longest first. Grid: chunks.
template <class Dot>
__device__ __forceinline__ void tile_kernel(const unsigned* __restrict__ row_ptr, const uint2* __restrict__ pairs,
                                            const unsigned* __restrict__ order, const uint4* __restrict__ dy,
                                            const uint4* __restrict__ x, float* __restrict__ partial, unsigned rows,
                                            unsigned cols, unsigned room, unsigned row_vectors, Dot dot) {
    constexpr unsigned kLanes = 8;
    DYNAMIC_SHARED(uint4, tile);  // [cols][kLanes]
    const unsigned part = threadIdx.x % kLanes, tiles = row_vectors / kLanes;
    const unsigned lanes_of_row = 0xffu << lane_of_thread() / kLanes * kLanes;
    float* mine = partial + size_t(blockIdx.x) * room;
    for (unsigned t = blockIdx.x; t < tiles; t += gridDim.x) {
        const unsigned first = t * kLanes;
        __syncthreads();  // the tile before has been read
        for (unsigned i = threadIdx.x; i < cols * kLanes; i += blockDim.x) {
            tile[i] = x[size_t(i / kLanes) * row_vectors + first + i % kLanes];
        }
        __syncthreads();  // this one is whole
        for (unsigned i = threadIdx.x / kLanes; i < rows; i += blockDim.x / kLanes) {
            const unsigned row = order[i];
            const uint4 a = dy[size_t(row) * row_vectors + first + part];
            for (unsigned k = row_ptr[row]; k < row_ptr[row + 1]; ++k) {
                float sum = dot(a, tile[pairs[k].x * kLanes + part]);
#pragma unroll
                for (unsigned bits = kLanes / 2; bits > 0; bits /= 2) sum += __shfl_xor_sync(lanes_of_row, sum, bits);
                if (part == 0) mine[k] = t == blockIdx.x ? sum : mine[k] + sum;
            }
        }
    }
}

extern "C" __global__ void __launch_bounds__(256)
    sddmm_rows_f32(const unsigned* __restrict__ row_ptr, const uint2* __restrict__ pairs, const uint4* __restrict__ dy,
                   const uint4* __restrict__ x, float* __restrict__ partial, unsigned rows, unsigned room,
                   unsigned stride) {
    rows_kernel(row_ptr, pairs, dy, x, partial, rows, room, stride / 4, dot_f32);
}
extern "C" __global__ void __launch_bounds__(256)
    sddmm_rows_bf16(const unsigned* __restrict__ row_ptr, const uint2* __restrict__ pairs,
                    const uint4* __restrict__ dy, const uint4* __restrict__ x, float* __restrict__ partial,
                    unsigned rows, unsigned room, unsigned stride) {
    rows_kernel(row_ptr, pairs, dy, x, partial, rows, room, stride / 8, dot_bf16);
}

// 128 bytes of shared memory a column.
extern "C" __global__ void __launch_bounds__(512)
    sddmm_tile_f32(const unsigned* __restrict__ row_ptr, const uint2* __restrict__ pairs,
                   const unsigned* __restrict__ order, const uint4* __restrict__ dy, const uint4* __restrict__ x,
                   float* __restrict__ partial, unsigned rows, unsigned cols, unsigned room, unsigned stride) {
    tile_kernel(row_ptr, pairs, order, dy, x, partial, rows, cols, room, stride / 4, dot_f32);
}
extern "C" __global__ void __launch_bounds__(512)
    sddmm_tile_bf16(const unsigned* __restrict__ row_ptr, const uint2* __restrict__ pairs,
                    const unsigned* __restrict__ order, const uint4* __restrict__ dy, const uint4* __restrict__ x,
                    float* __restrict__ partial, unsigned rows, unsigned cols, unsigned room, unsigned stride) {
    tile_kernel(row_ptr, pairs, order, dy, x, partial, rows, cols, room, stride / 8, dot_bf16);
}

// dw[r, c] += the partial sums of the nonzero, chunk after chunk; dW [rows, cols] is dense. A warp a row.
extern "C" __global__ void __launch_bounds__(256)
    add_at_nonzeros(const unsigned* __restrict__ row_ptr, const uint2* __restrict__ pairs,
                    const float* __restrict__ partial, float* __restrict__ dw, unsigned rows, unsigned cols,
                    unsigned room, unsigned chunks) {
    const unsigned row = blockIdx.x * (blockDim.x / kWarpSize) + warp_of_thread();
    if (row >= rows) return;
    for (unsigned i = row_ptr[row] + lane_of_thread(); i < row_ptr[row + 1]; i += kWarpSize) {
        float* at = dw + size_t(row) * cols + pairs[i].x;
        float sum = *at;
        for (unsigned chunk = 0; chunk < chunks; ++chunk) sum += partial[size_t(chunk) * room + i];
        *at = sum;
    }
}
