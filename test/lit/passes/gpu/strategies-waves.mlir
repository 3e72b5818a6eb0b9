// Attention, convolutions, norms, chains, windows and the rest on waves of 64 and of 32: the same passes, other facts of the target.
// RUN: %mlc-opt %s --split-input-file --target=rocm:gfx942 --pass-pipeline='builtin.module(lower-graph-to-tile,tile-pipeline,task-pipeline,gpu-kernel-pipeline)' | filecheck %s --check-prefixes=ALL,WAVE64
// RUN: %mlc-opt %s --split-input-file --target=rocm:gfx1100 --pass-pipeline='builtin.module(lower-graph-to-tile,tile-pipeline,task-pipeline,gpu-kernel-pipeline)' | filecheck %s --check-prefixes=ALL,WAVE32

// Two products around a softmax, in one kernel.
// ALL: gpu.func @kernel_0
// WAVE64: amdgpu.mfma 16x16x16
// WAVE32: amdgpu.wmma 16x16x16
// ALL: gpu.shuffle xor
// WAVE64: amdgpu.mfma 16x16x16
// WAVE32: amdgpu.wmma 16x16x16
// ALL-NOT: gpu.func @kernel_1
// ALL: func.func @main
func.func @main(%q: tensor<1x8x128x64xf16>, %k: tensor<1x8x128x64xf16>, %v: tensor<1x8x128x64xf16>) -> tensor<1x8x128x64xf16> {
  %0 = "graph.attention"(%q, %k, %v) {scale = 0.125} : (tensor<1x8x128x64xf16>, tensor<1x8x128x64xf16>, tensor<1x8x128x64xf16>) -> tensor<1x8x128x64xf16>
  return %0 : tensor<1x8x128x64xf16>
}

// -----

// ALL: gpu.func @kernel_0
// WAVE64: amdgpu.mfma 16x16x16
// WAVE32: amdgpu.wmma 16x16x16
// ALL: func.func @main
func.func @main(%x: tensor<1x28x28x64xf16>, %w: tensor<64x64x3x3xf16>) -> tensor<1x64x14x14xf16> {
  %0 = "graph.pad"(%x) {low = [0, 1, 1, 0], high = [0, 1, 1, 0]} : (tensor<1x28x28x64xf16>) -> tensor<1x30x30x64xf16>
  %1 = "graph.transpose"(%0) {perm = [0, 3, 1, 2]} : (tensor<1x30x30x64xf16>) -> tensor<1x64x30x30xf16>
  %2 = "graph.conv"(%1, %w) {strides = [2, 2], dilations = [1, 1], groups = 1} : (tensor<1x64x30x30xf16>, tensor<64x64x3x3xf16>) -> tensor<1x64x14x14xf16>
  return %2 : tensor<1x64x14x14xf16>
}

// -----

// ALL: gpu.func @kernel_0
// WAVE64: %[[W:.*]] = arith.constant 64 : i32
// WAVE32: %[[W:.*]] = arith.constant 32 : i32
// ALL: gpu.shuffle xor
// ALL: func.func @main
func.func @main(%x: tensor<64x768xf32>) -> tensor<64x768xf32> {
  %0 = "graph.layer_norm"(%x) {axis = 1, eps = 0.00001} : (tensor<64x768xf32>) -> tensor<64x768xf32>
  return %0 : tensor<64x768xf32>
}

// -----

// A chain of elementwise ops.
// ALL: gpu.func @kernel_0
// ALL: vector.load
// ALL: vector.store
// ALL-NOT: gpu.func @kernel_1
// ALL: func.func @main
func.func @main(%x: tensor<512x768xf16>, %y: tensor<768xf16>) -> tensor<512x768xf16> {
  %0 = "graph.elementwise"(%x, %y) {fn = "add"} : (tensor<512x768xf16>, tensor<768xf16>) -> tensor<512x768xf16>
  %1 = "graph.elementwise"(%0) {fn = "gelu"} : (tensor<512x768xf16>) -> tensor<512x768xf16>
  return %1 : tensor<512x768xf16>
}

// -----

// Few rows by a matrix.
// ALL: gpu.func @kernel_0
// WAVE64: amdgpu.mfma 16x16x16
// WAVE32: amdgpu.wmma 16x16x16
// ALL: func.func @main
func.func @main(%x: tensor<2x4096xf16>, %w: tensor<4096x4096xf16>) -> tensor<2x4096xf16> {
  %0 = "graph.matmul"(%x, %w) : (tensor<2x4096xf16>, tensor<4096x4096xf16>) -> tensor<2x4096xf16>
  return %0 : tensor<2x4096xf16>
}

// -----

// One row by a matrix: no unit, loops that share the reduction.
// ALL: gpu.func @kernel_0
// ALL-NOT: amdgpu.
// ALL: gpu.shuffle
// ALL: func.func @main
func.func @main(%x: tensor<1x4096xf16>, %w: tensor<4096x4096xf16>) -> tensor<1x4096xf16> {
  %0 = "graph.matmul"(%x, %w) {transpose_b = true} : (tensor<1x4096xf16>, tensor<4096x4096xf16>) -> tensor<1x4096xf16>
  return %0 : tensor<1x4096xf16>
}

// -----

// Windows of one channel each are no matrix products.
// ALL: gpu.func @kernel_0
// ALL-NOT: amdgpu.
// ALL: func.func @main
func.func @main(%x: tensor<1x114x114x64xf16>, %w: tensor<3x3x1x64xf16>) -> tensor<1x112x112x64xf16> {
  %0 = "graph.conv"(%x, %w) {strides = [1, 1], dilations = [1, 1], groups = 64, layout = "nhwc"} : (tensor<1x114x114x64xf16>, tensor<3x3x1x64xf16>) -> tensor<1x112x112x64xf16>
  return %0 : tensor<1x112x112x64xf16>
}

// -----

// ALL: gpu.func @kernel_0
// ALL: arith.maximumf
// ALL: func.func @main
func.func @main(%x: tensor<1x56x56x64xf16>) -> tensor<1x28x28x64xf16> {
  %0 = "graph.pool"(%x) {kind = "max", kernel = [2, 2], strides = [2, 2], dilations = [1, 1], axis = 1} : (tensor<1x56x56x64xf16>) -> tensor<1x28x28x64xf16>
  return %0 : tensor<1x28x28x64xf16>
}

// -----

// Rows of a table, a running sum, the largest of a row: no thread walks alone.
// ALL: gpu.func @kernel_0
// ALL-NOT: known_block_size = array<i32: 1, 1, 1>
// ALL: func.func @main
func.func @main(%t: tensor<1000x64xf16>, %i: tensor<8x100xi64>, %x: tensor<64x5000xf32>) -> (tensor<8x100x64xf16>, tensor<64x5000xf32>, tensor<64x10xf32>, tensor<64x10xi64>) {
  %0 = "graph.gather"(%t, %i) {axis = 0} : (tensor<1000x64xf16>, tensor<8x100xi64>) -> tensor<8x100x64xf16>
  %1 = "graph.scan"(%x) {kind = "sum", axis = 1} : (tensor<64x5000xf32>) -> tensor<64x5000xf32>
  %2, %3 = "graph.topk"(%x) {k = 10, axis = 1} : (tensor<64x5000xf32>) -> (tensor<64x10xf32>, tensor<64x10xi64>)
  return %0, %1, %2, %3 : tensor<8x100x64xf16>, tensor<64x5000xf32>, tensor<64x10xf32>, tensor<64x10xi64>
}

// -----

// Each element of the result looks for what is written to it.
// ALL: gpu.func @kernel_0
// ALL-NOT: known_block_size = array<i32: 1, 1, 1>
// ALL: func.func @main
func.func @main(%x: tensor<500x64xf32>, %i: tensor<300x1xi64>, %u: tensor<300x64xf32>) -> tensor<500x64xf32> {
  %0 = "graph.scatter_nd"(%x, %i, %u) : (tensor<500x64xf32>, tensor<300x1xi64>, tensor<300x64xf32>) -> tensor<500x64xf32>
  return %0 : tensor<500x64xf32>
}

// -----

// ALL: gpu.func @kernel_0
// WAVE64: amdgpu.mfma 16x16x16
// WAVE32: amdgpu.wmma 16x16x16
// ALL: func.func @main
func.func @main(%x: tensor<1x16x16x64xf16>, %w: tensor<4x4x64x32xf16>) -> tensor<1x32x32x32xf16> {
  %0 = "graph.conv_transpose"(%x, %w) {strides = [2, 2], dilations = [1, 1], pads = [1, 1], size = [32, 32], groups = 1, layout = "nhwc"} : (tensor<1x16x16x64xf16>, tensor<4x4x64x32xf16>) -> tensor<1x32x32x32xf16>
  return %0 : tensor<1x32x32x32xf16>
}
