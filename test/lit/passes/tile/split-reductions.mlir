// split-reductions: a product of few results and great depth becomes parts and their sum; one that fills the GPU stays.
// RUN: %mlc-opt %s --split-input-file --target=cuda:sm_90a --pass-pipeline='builtin.module(lower-graph-to-tile,split-reductions)' | filecheck %s

// CHECK-LABEL: func.func @deep
// CHECK: "tile.graph"
// CHECK: -> tensor<[[PARTS:[0-9]+]]x16x256xf32>
// CHECK: "tile.graph"
// CHECK: (tensor<[[PARTS]]x16x256xf32>) -> tensor<16x256xf32>
func.func @deep(%x: tensor<16x8192xf16>, %w: tensor<8192x256xf16>) -> tensor<16x256xf16> {
  %0 = "graph.matmul"(%x, %w) : (tensor<16x8192xf16>, tensor<8192x256xf16>) -> tensor<16x256xf16>
  return %0 : tensor<16x256xf16>
}

// -----

// CHECK-LABEL: func.func @wide
// CHECK-NOT: x4096x4096xf32>
// CHECK: -> tensor<4096x4096xf16>
func.func @wide(%x: tensor<4096x1024xf16>, %w: tensor<1024x4096xf16>) -> tensor<4096x4096xf16> {
  %0 = "graph.matmul"(%x, %w) : (tensor<4096x1024xf16>, tensor<1024x4096xf16>) -> tensor<4096x4096xf16>
  return %0 : tensor<4096x4096xf16>
}

// -----

// One row of f32 by a matrix that no cache holds: memory sets the pace, but only if enough threads load at once.
// CHECK-LABEL: func.func @row
// CHECK: "tile.graph"
// CHECK: -> tensor<[[PARTS:[0-9]+]]x1x57344xf32>
// CHECK: (tensor<[[PARTS]]x1x57344xf32>) -> tensor<1x57344xf32>
func.func @row(%x: tensor<1x8192xf32>, %w: tensor<8192x57344xf32>) -> tensor<1x57344xf32> {
  %0 = "graph.matmul"(%x, %w) : (tensor<1x8192xf32>, tensor<8192x57344xf32>) -> tensor<1x57344xf32>
  return %0 : tensor<1x57344xf32>
}
