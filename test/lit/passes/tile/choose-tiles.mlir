// choose-tiles: sizes on graphs, levels on their ops; forced sizes stay as they are.
// RUN: %mlc-opt %s --split-input-file --target=cpu:x86-64-v4 --lower-graph-to-tile --connect --choose-tiles | filecheck %s

// The matrix product has a block buffer, the bias is added where the root reads it, the root is what leaves.
// CHECK-LABEL: func.func @levels
// CHECK: linalg.generic {{.*}}"reduction"]{{.*}} {tile.level = "shared"}
// CHECK: linalg.generic {{.*}} {tile.level = "register"}
// CHECK: linalg.generic {{.*}} {tile.level = "global"}
// CHECK: {tile.sizes = [{{[0-9]+}}, {{[0-9]+}}]}
func.func @levels(%x: tensor<256x128xf32>, %w: tensor<128x256xf32>, %b: tensor<256xf32>) -> tensor<256x256xf32> {
  %0 = "graph.matmul"(%x, %w) : (tensor<256x128xf32>, tensor<128x256xf32>) -> tensor<256x256xf32>
  %1 = "graph.elementwise"(%0, %b) {fn = "add"} : (tensor<256x256xf32>, tensor<256xf32>) -> tensor<256x256xf32>
  %2 = "graph.elementwise"(%1) {fn = "gelu"} : (tensor<256x256xf32>) -> tensor<256x256xf32>
  return %2 : tensor<256x256xf32>
}

// -----

// Rows of a large row reduction are split among blocks and stay whole.
// CHECK-LABEL: func.func @rows
// CHECK: {tile.sizes = [{{[0-9]+}}, 1000]}
func.func @rows(%x: tensor<4096x1000xf32>) -> tensor<4096x1000xf32> {
  %0 = "graph.softmax"(%x) {axis = 1} : (tensor<4096x1000xf32>) -> tensor<4096x1000xf32>
  return %0 : tensor<4096x1000xf32>
}

// -----

// Scalars and empty tensors have a tile too.
// CHECK-LABEL: func.func @small
// CHECK: {tile.sizes = []}
// CHECK: {tile.sizes = [1, 4]}
func.func @small(%x: tensor<f32>, %y: tensor<0x4xf32>) -> (tensor<f32>, tensor<0x4xf32>) {
  %0 = "graph.elementwise"(%x) {fn = "relu"} : (tensor<f32>) -> tensor<f32>
  %1 = "graph.elementwise"(%y) {fn = "relu"} : (tensor<0x4xf32>) -> tensor<0x4xf32>
  return %0, %1 : tensor<f32>, tensor<0x4xf32>
}

// -----

// An opaque kernel gets neither.
// CHECK-LABEL: func.func @opaque
// CHECK-NOT: tile.sizes
// CHECK-NOT: tile.level
// CHECK: return
func.func @opaque(%x: tensor<2x8x8xf32>) -> tensor<2xf32> {
  %0 = "graph.determinant"(%x) : (tensor<2x8x8xf32>) -> tensor<2xf32>
  return %0 : tensor<2xf32>
}

// -----

// CHECK-LABEL: func.func @forced
// CHECK-NOT: tile.level
// CHECK: {tile.sizes = [3]}
// CHECK-NOT: tile.sizes
func.func @forced(%x: tensor<64xf32>) -> tensor<64xf32> {
  %r = "tile.graph"(%x) ({
  ^bb0(%a: tensor<64xf32>):
    %e = tensor.empty() : tensor<64xf32>
    %y = linalg.generic {indexing_maps = [affine_map<(d0) -> (d0)>, affine_map<(d0) -> (d0)>], iterator_types = ["parallel"]}
           ins(%a : tensor<64xf32>) outs(%e : tensor<64xf32>) {
    ^bb1(%v: f32, %out: f32):
      %n = arith.negf %v : f32
      linalg.yield %n : f32
    } -> tensor<64xf32>
    "tile.yield"(%y) : (tensor<64xf32>) -> ()
  }) {tile.sizes = [3]} : (tensor<64xf32>) -> tensor<64xf32>
  return %r : tensor<64xf32>
}
