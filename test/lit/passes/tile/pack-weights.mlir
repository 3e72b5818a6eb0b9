// pack-weights: a weight that is the column factor of a product is stored in panels; the kernel names the logical tensor by tile.map.
// RUN: %mlc-opt %s --split-input-file --target=cpu:x86-64-v4 --lower-graph-to-tile --choose-tiles --pack-weights | filecheck %s

// CHECK-LABEL: func.func @packed
// CHECK: %[[W:.*]] = "tile.weight"() {key = "w"} : () -> tensor<64x128xf32>
// CHECK: %[[P:.*]] = "tile.graph"(%[[W]]) ({
// CHECK: "tile.yield"(%{{.*}}) : (tensor<[[N:[0-9]+]]x64x[[WIDTH:[0-9]+]]xf32>)
// CHECK: "tile.graph"(%arg0, %[[P]]) ({
// CHECK: "tile.map"(%{{.*}}) {columns = 1 : i64, group = {{[0-9]+}} : i64, order = [0], width = [[WIDTH]] : i64} : (tensor<[[N]]x64x[[WIDTH]]xf32>) -> tensor<64x128xf32>
func.func @packed(%x: tensor<32x64xf32>) -> tensor<32x128xf32> {
  %w = "graph.weight"() {key = "w"} : () -> tensor<64x128xf32>
  %0 = "graph.matmul"(%x, %w) : (tensor<32x64xf32>, tensor<64x128xf32>) -> tensor<32x128xf32>
  return %0 : tensor<32x128xf32>
}

// -----

// Stored with its dimensions swapped it becomes the same panels.
// CHECK-LABEL: func.func @transposed
// CHECK: "tile.map"(%{{.*}}) {columns = 0 : i64, group = {{[0-9]+}} : i64, order = [1], width = {{[0-9]+}} : i64} {{.*}} -> tensor<128x64xf32>
func.func @transposed(%x: tensor<32x64xf32>) -> tensor<32x128xf32> {
  %w = "graph.weight"() {key = "w"} : () -> tensor<128x64xf32>
  %0 = "graph.matmul"(%x, %w) {transpose_b = true} : (tensor<32x64xf32>, tensor<128x64xf32>) -> tensor<32x128xf32>
  return %0 : tensor<32x128xf32>
}

// -----

// 100 columns in two panels of 64: the second one begins at column 36. Those of an input are not packed, nor is a small input.
// CHECK-LABEL: func.func @ragged
// CHECK: arith.minsi
// CHECK: "tile.yield"(%{{.*}}) : (tensor<2x80x64xf32>)
// CHECK: "tile.map"(%{{.*}}) {columns = 1 : i64, group = 100 : i64, order = [0], width = 64 : i64} : (tensor<2x80x64xf32>) -> tensor<80x100xf32>
// CHECK-NOT: tile.map
// CHECK: return
func.func @ragged(%x: tensor<640x80xf32>, %v: tensor<80x100xf32>, %s: tensor<32x80xf32>, %u: tensor<80x128xf32>)
    -> (tensor<640x100xf32>, tensor<640x100xf32>, tensor<32x128xf32>) {
  %w = "graph.weight"() {key = "w"} : () -> tensor<80x100xf32>
  %0 = "graph.matmul"(%x, %w) : (tensor<640x80xf32>, tensor<80x100xf32>) -> tensor<640x100xf32>
  %1 = "graph.matmul"(%x, %v) : (tensor<640x80xf32>, tensor<80x100xf32>) -> tensor<640x100xf32>
  %2 = "graph.matmul"(%s, %u) : (tensor<32x80xf32>, tensor<80x128xf32>) -> tensor<32x128xf32>
  return %0, %1, %2 : tensor<640x100xf32>, tensor<640x100xf32>, tensor<32x128xf32>
}

// -----

// 3001 columns by blocks of 512: the last block, and so its eight panels, begin at column 2489.
// CHECK-LABEL: func.func @groups
// CHECK: "tile.map"(%{{.*}}) {columns = 1 : i64, group = 512 : i64, order = [0], width = 64 : i64} : (tensor<48x512x64xf32>) -> tensor<512x3001xf32>
func.func @groups(%x: tensor<512x512xf32>) -> tensor<512x3001xf32> {
  %w = "graph.weight"() {key = "w"} : () -> tensor<512x3001xf32>
  %0 = "graph.matmul"(%x, %w) : (tensor<512x512xf32>, tensor<512x3001xf32>) -> tensor<512x3001xf32>
  return %0 : tensor<512x3001xf32>
}

// -----

// The reduction's loops are stored as the other factor lies in memory: taps of a channels-last convolution, then channels.
// CHECK-LABEL: func.func @convolution
// CHECK: "tile.map"(%{{.*}}) {columns = 3 : i64, group = 32 : i64, order = [0, 1, 2], width = 32 : i64}
// CHECK-SAME: (tensor<2x3x3x32x32xf32>) -> tensor<3x3x32x64xf32>
func.func @convolution(%x: tensor<1x16x16x32xf32>) -> tensor<1x14x14x64xf32> {
  %w = "graph.weight"() {key = "w"} : () -> tensor<3x3x32x64xf32>
  %0 = "graph.conv"(%x, %w) {strides = [1, 1], dilations = [1, 1], groups = 1, layout = "nhwc"}
    : (tensor<1x16x16x32xf32>, tensor<3x3x32x64xf32>) -> tensor<1x14x14x64xf32>
  return %0 : tensor<1x14x14x64xf32>
}

// -----

// A product that computes its other factor as it goes is no matrix unit's work: its loops read plain rows and columns.
// CHECK-LABEL: func.func @inlined_factor
// CHECK-NOT: tile.map
// CHECK: return
func.func @inlined_factor(%x: tensor<32x64xf32>) -> tensor<32x128xf32> {
  %w = "tile.weight"() {key = "w"} : () -> tensor<64x128xf32>
  %r = "tile.graph"(%x, %w) ({
  ^bb0(%a: tensor<32x64xf32>, %b: tensor<64x128xf32>):
    %d = tensor.empty() : tensor<32x64xf32>
    %n = linalg.generic {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>], iterator_types = ["parallel", "parallel"]}
           ins(%a : tensor<32x64xf32>) outs(%d : tensor<32x64xf32>) attrs = {tile.level = "register"} {
    ^bb1(%v: f32, %out: f32):
      %m = arith.negf %v : f32
      linalg.yield %m : f32
    } -> tensor<32x64xf32>
    %zero = arith.constant 0.0 : f32
    %e = tensor.empty() : tensor<32x128xf32>
    %f = linalg.fill ins(%zero : f32) outs(%e : tensor<32x128xf32>) -> tensor<32x128xf32>
    %y = linalg.generic {indexing_maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (k, n)>, affine_map<(m, n, k) -> (m, n)>],
                         iterator_types = ["parallel", "parallel", "reduction"]}
           ins(%n, %b : tensor<32x64xf32>, tensor<64x128xf32>) outs(%f : tensor<32x128xf32>) attrs = {tile.level = "global"} {
    ^bb1(%u: f32, %v: f32, %acc: f32):
      %p = arith.mulf %u, %v : f32
      %s = arith.addf %acc, %p : f32
      linalg.yield %s : f32
    } -> tensor<32x128xf32>
    "tile.yield"(%y) : (tensor<32x128xf32>) -> ()
  }) {tile.sizes = [8, 128]} : (tensor<32x64xf32>, tensor<64x128xf32>) -> tensor<32x128xf32>
  return %r : tensor<32x128xf32>
}
