// connect: chains whose fused price is lower become one kernel; what leaves it is yielded, what stays inside is not.
// RUN: %mlc-opt %s --split-input-file --target=cpu:x86-64-v4 --lower-graph-to-tile --fold-views --mlc-dce --connect | filecheck %s

// CHECK-LABEL: func.func @matmul_bias_gelu
// CHECK: "tile.graph"(%arg0, %arg1, %arg2) ({
// CHECK: linalg.generic {{.*}}"reduction"
// CHECK: arith.addf
// CHECK: math.erf
// CHECK: "tile.yield"(%{{[^,]*}}) : (tensor<64x256xf32>)
// CHECK-NOT: "tile.graph"
// CHECK: return
func.func @matmul_bias_gelu(%x: tensor<64x128xf32>, %w: tensor<128x256xf32>, %b: tensor<256xf32>) -> tensor<64x256xf32> {
  %0 = "graph.matmul"(%x, %w) : (tensor<64x128xf32>, tensor<128x256xf32>) -> tensor<64x256xf32>
  %1 = "graph.elementwise"(%0, %b) {fn = "add"} : (tensor<64x256xf32>, tensor<256xf32>) -> tensor<64x256xf32>
  %2 = "graph.elementwise"(%1) {fn = "gelu"} : (tensor<64x256xf32>) -> tensor<64x256xf32>
  return %2 : tensor<64x256xf32>
}

// -----

// CHECK-LABEL: func.func @conv_norm_relu_add
// CHECK: "tile.graph"(%arg0, %arg1, %arg2, %arg3, %arg4) ({
// CHECK: "tile.yield"(%{{[^,]*}}) : (tensor<1x16x14x14xf32>)
// CHECK-NOT: "tile.graph"
// CHECK: return
func.func @conv_norm_relu_add(%x: tensor<1x8x16x16xf32>, %w: tensor<16x8x3x3xf32>, %s: tensor<16x1x1xf32>, %b: tensor<16x1x1xf32>,
                              %r: tensor<1x16x14x14xf32>) -> tensor<1x16x14x14xf32> {
  %0 = "graph.conv"(%x, %w) {strides = [1, 1], dilations = [1, 1]} : (tensor<1x8x16x16xf32>, tensor<16x8x3x3xf32>) -> tensor<1x16x14x14xf32>
  %1 = "graph.elementwise"(%0, %s) {fn = "mul"} : (tensor<1x16x14x14xf32>, tensor<16x1x1xf32>) -> tensor<1x16x14x14xf32>
  %2 = "graph.elementwise"(%1, %b) {fn = "add"} : (tensor<1x16x14x14xf32>, tensor<16x1x1xf32>) -> tensor<1x16x14x14xf32>
  %3 = "graph.elementwise"(%2) {fn = "relu"} : (tensor<1x16x14x14xf32>) -> tensor<1x16x14x14xf32>
  %4 = "graph.elementwise"(%3, %r) {fn = "add"} : (tensor<1x16x14x14xf32>, tensor<1x16x14x14xf32>) -> tensor<1x16x14x14xf32>
  return %4 : tensor<1x16x14x14xf32>
}

// -----

// CHECK-LABEL: func.func @softmax
// CHECK: "tile.graph"(%arg0) ({
// CHECK-NOT: "tile.graph"
// CHECK: return
func.func @softmax(%x: tensor<64x100xf32>) -> tensor<64x100xf32> {
  %0 = "graph.softmax"(%x) {axis = 1} : (tensor<64x100xf32>) -> tensor<64x100xf32>
  return %0 : tensor<64x100xf32>
}

// -----

// CHECK-LABEL: func.func @layer_norm
// CHECK: "tile.graph"(%arg0, %arg1, %arg2) ({
// CHECK-NOT: "tile.graph"
// CHECK: return
func.func @layer_norm(%x: tensor<64x100xf32>, %s: tensor<100xf32>, %b: tensor<100xf32>) -> tensor<64x100xf32> {
  %0 = "graph.layer_norm"(%x) {axis = 1, eps = 1.0e-5} : (tensor<64x100xf32>) -> tensor<64x100xf32>
  %1 = "graph.elementwise"(%0, %s) {fn = "mul"} : (tensor<64x100xf32>, tensor<100xf32>) -> tensor<64x100xf32>
  %2 = "graph.elementwise"(%1, %b) {fn = "add"} : (tensor<64x100xf32>, tensor<100xf32>) -> tensor<64x100xf32>
  return %2 : tensor<64x100xf32>
}

// -----

// CHECK-LABEL: func.func @matmul_softmax_matmul
// CHECK: "tile.graph"(%arg0, %arg1, %arg2) ({
// CHECK-NOT: "tile.graph"
// CHECK: return
func.func @matmul_softmax_matmul(%q: tensor<8x64x32xf32>, %k: tensor<8x64x32xf32>, %v: tensor<8x64x32xf32>) -> tensor<8x64x32xf32> {
  %0 = "graph.matmul"(%q, %k) {transpose_b = true} : (tensor<8x64x32xf32>, tensor<8x64x32xf32>) -> tensor<8x64x64xf32>
  %1 = "graph.softmax"(%0) {axis = 2} : (tensor<8x64x64xf32>) -> tensor<8x64x64xf32>
  %2 = "graph.matmul"(%1, %v) : (tensor<8x64x64xf32>, tensor<8x64x32xf32>) -> tensor<8x64x32xf32>
  return %2 : tensor<8x64x32xf32>
}

// -----

// A producer that something else reads too leaves the kernel beside the root.
// CHECK-LABEL: func.func @two_results
// CHECK: %[[R:.*]]:2 = "tile.graph"(%arg0) ({
// CHECK: "tile.yield"(%{{.*}}, %{{.*}}) : (tensor<64x128xf32>, tensor<64xf32>)
// CHECK-NOT: "tile.graph"
// CHECK: return %[[R]]#0, %[[R]]#1
func.func @two_results(%x: tensor<64x128xf32>) -> (tensor<64x128xf32>, tensor<64xf32>) {
  %0 = "graph.elementwise"(%x) {fn = "tanh"} : (tensor<64x128xf32>) -> tensor<64x128xf32>
  %1 = "graph.reduce"(%0) {kind = "sum", axes = [1]} : (tensor<64x128xf32>) -> tensor<64xf32>
  return %0, %1 : tensor<64x128xf32>, tensor<64xf32>
}

// -----

// Kernels inside a loop body merge with each other, not across the loop's border.
// CHECK-LABEL: func.func @loop_body
// CHECK: "tile.graph"(%arg0)
// CHECK: "flow.loop"
// CHECK: "tile.graph"
// CHECK-NOT: "tile.graph"
// CHECK: return
func.func @loop_body(%x: tensor<64xf32>) -> tensor<64xf32> {
  %0 = "graph.elementwise"(%x) {fn = "neg"} : (tensor<64xf32>) -> tensor<64xf32>
  %1 = "flow.loop"(%x) ({
  ^bb0(%i: tensor<i64>, %a: tensor<64xf32>):
    %2 = "graph.elementwise"(%a, %0) {fn = "add"} : (tensor<64xf32>, tensor<64xf32>) -> tensor<64xf32>
    %3 = "graph.elementwise"(%2) {fn = "tanh"} : (tensor<64xf32>) -> tensor<64xf32>
    "flow.yield"(%3) : (tensor<64xf32>) -> ()
  }) {trip = 3, carried = 1} : (tensor<64xf32>) -> tensor<64xf32>
  return %1 : tensor<64xf32>
}
