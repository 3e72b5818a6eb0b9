// choose-tiles: a kernel that only turns a matrix has tiles of short rows (64 bytes), whose loads neighbouring threads share.
// RUN: %mlc-opt %s --target=cuda:sm_90a --pass-pipeline='builtin.module(lower-graph-to-tile,choose-tiles)' | filecheck %s

// CHECK: tile.sizes = [{{[0-9]+}}, 16]
func.func @main(%x: tensor<4096x4096xf32>) -> tensor<4096x4096xf32> {
  %0 = "graph.transpose"(%x) {perm = [1, 0]} : (tensor<4096x4096xf32>) -> tensor<4096x4096xf32>
  return %0 : tensor<4096x4096xf32>
}
