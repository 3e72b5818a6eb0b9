// A residual block, pooled: one transpose at the input; weights are transposed at compile time.
// RUN: %mlc-opt %s --fold-scales --choose-layout | filecheck %s
// RUN: %mlc-opt %s --choose-layout=layout=nchw | filecheck %s --check-prefix=NCHW

// CHECK-LABEL: func.func @main
// CHECK: %[[PAD:.*]] = "graph.pad"(%arg0)
// CHECK: "graph.transpose"(%[[PAD]]) {perm = [0, 2, 3, 1]} : (tensor<1x3x8x7xf32>)
// CHECK: "graph.conv"({{.*}}) {dilations = [1, 1], layout = "nhwc", strides = [1, 1]} : (tensor<1x8x7x3xf32>, tensor<3x3x3x4xf32>) -> tensor<1x6x5x4xf32>
// CHECK-NOT: "graph.transpose"({{.*}}) {{.*}} tensor<1x
// CHECK: "graph.conv"({{.*}}) -> tensor<1x6x5x4xf32>
// CHECK-NOT: "graph.transpose"({{.*}}) {{.*}} tensor<1x
// CHECK: "graph.pool"({{.*}}) {axis = 1
// CHECK-NOT: graph.transpose
// CHECK: "graph.reduce"({{.*}}) {axes = [1, 2]
// CHECK-NEXT: return
// NCHW-NOT: graph.transpose

func.func @main(%arg0: tensor<1x3x6x5xf32>) -> tensor<1x4xf32> {
  %0 = "graph.pad"(%arg0) {high = [0, 0, 1, 1], low = [0, 0, 1, 1]} : (tensor<1x3x6x5xf32>) -> tensor<1x3x8x7xf32>
  %1 = "graph.weight"() {key = "w1"} : () -> tensor<4x3x3x3xf32>
  %2 = "graph.conv"(%0, %1) {dilations = [1, 1], strides = [1, 1]} : (tensor<1x3x8x7xf32>, tensor<4x3x3x3xf32>) -> tensor<1x4x6x5xf32>
  %3 = "graph.weight"() {key = "w2"} : () -> tensor<4xf32>
  %4 = "graph.reshape"(%3) {shape = [4, 1, 1]} : (tensor<4xf32>) -> tensor<4x1x1xf32>
  %5 = "graph.weight"() {key = "w3"} : () -> tensor<4xf32>
  %6 = "graph.reshape"(%5) {shape = [4, 1, 1]} : (tensor<4xf32>) -> tensor<4x1x1xf32>
  %7 = "graph.constant"() {bytes = "CDCCCC3D"} : () -> tensor<f32>
  %8 = "graph.elementwise"(%4, %7) {fn = "mul"} : (tensor<4x1x1xf32>, tensor<f32>) -> tensor<4x1x1xf32>
  %9 = "graph.elementwise"(%2, %8) {fn = "mul"} : (tensor<1x4x6x5xf32>, tensor<4x1x1xf32>) -> tensor<1x4x6x5xf32>
  %10 = "graph.elementwise"(%9, %6) {fn = "add"} : (tensor<1x4x6x5xf32>, tensor<4x1x1xf32>) -> tensor<1x4x6x5xf32>
  %11 = "graph.elementwise"(%10) {fn = "relu"} : (tensor<1x4x6x5xf32>) -> tensor<1x4x6x5xf32>
  %12 = "graph.pad"(%11) {high = [0, 0, 1, 1], low = [0, 0, 1, 1]} : (tensor<1x4x6x5xf32>) -> tensor<1x4x8x7xf32>
  %13 = "graph.weight"() {key = "w4"} : () -> tensor<4x4x3x3xf32>
  %14 = "graph.conv"(%12, %13) {dilations = [1, 1], strides = [1, 1]} : (tensor<1x4x8x7xf32>, tensor<4x4x3x3xf32>) -> tensor<1x4x6x5xf32>
  %15 = "graph.weight"() {key = "w5"} : () -> tensor<4xf32>
  %16 = "graph.reshape"(%15) {shape = [4, 1, 1]} : (tensor<4xf32>) -> tensor<4x1x1xf32>
  %17 = "graph.weight"() {key = "w6"} : () -> tensor<4xf32>
  %18 = "graph.reshape"(%17) {shape = [4, 1, 1]} : (tensor<4xf32>) -> tensor<4x1x1xf32>
  %19 = "graph.constant"() {bytes = "CDCCCC3D"} : () -> tensor<f32>
  %20 = "graph.elementwise"(%16, %19) {fn = "mul"} : (tensor<4x1x1xf32>, tensor<f32>) -> tensor<4x1x1xf32>
  %21 = "graph.elementwise"(%14, %20) {fn = "mul"} : (tensor<1x4x6x5xf32>, tensor<4x1x1xf32>) -> tensor<1x4x6x5xf32>
  %22 = "graph.elementwise"(%21, %18) {fn = "add"} : (tensor<1x4x6x5xf32>, tensor<4x1x1xf32>) -> tensor<1x4x6x5xf32>
  %23 = "graph.elementwise"(%22, %11) {fn = "add"} : (tensor<1x4x6x5xf32>, tensor<1x4x6x5xf32>) -> tensor<1x4x6x5xf32>
  %24 = "graph.elementwise"(%23) {fn = "relu"} : (tensor<1x4x6x5xf32>) -> tensor<1x4x6x5xf32>
  %25 = "graph.pad"(%24) {high = [0, 0, 1, 1], low = [0, 0, 1, 1], value = 0xFFF0000000000000 : f64} : (tensor<1x4x6x5xf32>) -> tensor<1x4x8x7xf32>
  %26 = "graph.pool"(%25) {axis = 2 : i64, dilations = [1, 1], kernel = [3, 3], kind = "max", strides = [2, 2]} : (tensor<1x4x8x7xf32>) -> tensor<1x4x3x3xf32>
  %27 = "graph.reduce"(%26) {axes = [2, 3], kind = "mean"} : (tensor<1x4x3x3xf32>) -> tensor<1x4xf32>
  return %27 : tensor<1x4xf32>
}
