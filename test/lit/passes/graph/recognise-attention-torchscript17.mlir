// TorchScript, opset 17 (HF bert): keys transposed at once, a mask of -inf and the guard.
// RUN: %mlc-opt %s --split-input-file --mlc-cse --simplify --sink-transposes --recognise --simplify | filecheck %s

// Zero or -inf added is a bool mask.
// CHECK-LABEL: func.func @main
// CHECK: %[[SEEN:.*]] = "graph.weight"() {key = "seen"}
// CHECK-NOT: graph.softmax
// CHECK: "graph.attention"(%{{.*}}, %{{.*}}, %{{.*}}, %[[SEEN]]) {scale = 0.49999{{.*}}} : ({{.*}}, tensor<1x1x5x5xi1>)
// CHECK-NOT: graph.matmul"({{.*}}tensor<1x2x5x5xf32>

func.func @main(%arg0: tensor<1x5x8xf32>) -> tensor<1x5x8xf32> {
  %0 = "graph.weight"() {key = "q"} : () -> tensor<8x8xf32>
  %1 = "graph.matmul"(%arg0, %0) : (tensor<1x5x8xf32>, tensor<8x8xf32>) -> tensor<1x5x8xf32>
  %2 = "graph.reshape"(%1) {shape = [1, 5, 2, 4]} : (tensor<1x5x8xf32>) -> tensor<1x5x2x4xf32>
  %3 = "graph.transpose"(%2) {perm = [0, 2, 1, 3]} : (tensor<1x5x2x4xf32>) -> tensor<1x2x5x4xf32>
  %4 = "graph.weight"() {key = "v"} : () -> tensor<8x8xf32>
  %5 = "graph.matmul"(%arg0, %4) : (tensor<1x5x8xf32>, tensor<8x8xf32>) -> tensor<1x5x8xf32>
  %6 = "graph.reshape"(%5) {shape = [1, 5, 2, 4]} : (tensor<1x5x8xf32>) -> tensor<1x5x2x4xf32>
  %7 = "graph.transpose"(%6) {perm = [0, 2, 1, 3]} : (tensor<1x5x2x4xf32>) -> tensor<1x2x5x4xf32>
  %8 = "graph.weight"() {key = "k"} : () -> tensor<8x8xf32>
  %9 = "graph.matmul"(%arg0, %8) : (tensor<1x5x8xf32>, tensor<8x8xf32>) -> tensor<1x5x8xf32>
  %10 = "graph.reshape"(%9) {shape = [1, 5, 2, 4]} : (tensor<1x5x8xf32>) -> tensor<1x5x2x4xf32>
  %11 = "graph.transpose"(%10) {perm = [0, 2, 3, 1]} : (tensor<1x5x2x4xf32>) -> tensor<1x2x4x5xf32>
  %12 = "graph.constant"() {bytes = "F304353F"} : () -> tensor<f32>
  %13 = "graph.elementwise"(%3, %12) {fn = "mul"} : (tensor<1x2x5x4xf32>, tensor<f32>) -> tensor<1x2x5x4xf32>
  %14 = "graph.constant"() {bytes = "F304353F"} : () -> tensor<f32>
  %15 = "graph.elementwise"(%11, %14) {fn = "mul"} : (tensor<1x2x4x5xf32>, tensor<f32>) -> tensor<1x2x4x5xf32>
  %16 = "graph.matmul"(%13, %15) : (tensor<1x2x5x4xf32>, tensor<1x2x4x5xf32>) -> tensor<1x2x5x5xf32>
  %17 = "graph.weight"() {key = "seen"} : () -> tensor<1x1x5x5xi1>
  %18 = "graph.constant"() {bytes = "00000000"} : () -> tensor<f32>
  %19 = "graph.constant"() {bytes = "000080FF"} : () -> tensor<f32>
  %20 = "graph.elementwise"(%17, %18, %19) {fn = "where"} : (tensor<1x1x5x5xi1>, tensor<f32>, tensor<f32>) -> tensor<1x1x5x5xf32>
  %21 = "graph.elementwise"(%16, %20) {fn = "add"} : (tensor<1x2x5x5xf32>, tensor<1x1x5x5xf32>) -> tensor<1x2x5x5xf32>
  %22 = "graph.softmax"(%21) {axis = 3 : i64} : (tensor<1x2x5x5xf32>) -> tensor<1x2x5x5xf32>
  %23 = "graph.elementwise"(%22) {fn = "is_nan"} : (tensor<1x2x5x5xf32>) -> tensor<1x2x5x5xi1>
  %24 = "graph.constant"() {bytes = "00000000"} : () -> tensor<f32>
  %25 = "graph.elementwise"(%23, %24, %22) {fn = "where"} : (tensor<1x2x5x5xi1>, tensor<f32>, tensor<1x2x5x5xf32>) -> tensor<1x2x5x5xf32>
  %26 = "graph.matmul"(%25, %7) : (tensor<1x2x5x5xf32>, tensor<1x2x5x4xf32>) -> tensor<1x2x5x4xf32>
  %27 = "graph.transpose"(%26) {perm = [0, 2, 1, 3]} : (tensor<1x2x5x4xf32>) -> tensor<1x5x2x4xf32>
  %28 = "graph.reshape"(%27) {shape = [1, 5, 8]} : (tensor<1x5x2x4xf32>) -> tensor<1x5x8xf32>
  return %28 : tensor<1x5x8xf32>
}
