// choose-tiles: what is turned has tiles that are long in both directions, and small enough for several blocks of an SM.
// RUN: %mlc-opt %s --target=cuda:sm_90a --pass-pipeline='builtin.module(lower-graph-to-tile,choose-tiles)' | filecheck %s

// CHECK: tile.sizes = [64, 64]
func.func @main(%x: tensor<4096x4096xf32>) -> tensor<4096x4096xf32> {
  %0 = "graph.transpose"(%x) {perm = [1, 0]} : (tensor<4096x4096xf32>) -> tensor<4096x4096xf32>
  return %0 : tensor<4096x4096xf32>
}
