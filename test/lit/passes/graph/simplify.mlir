// Identities, movements in their shortest form, small constants.
// RUN: %mlc-opt %s --split-input-file --simplify | filecheck %s

// neutral elements
// CHECK-LABEL: func.func @main
// CHECK-NEXT: return %arg0

func.func @main(%arg0: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %0 = "graph.constant"() {bytes = "00000000"} : () -> tensor<f32>
  %1 = "graph.elementwise"(%arg0, %0) {fn = "add"} : (tensor<2x3xf32>, tensor<f32>) -> tensor<2x3xf32>
  %2 = "graph.constant"() {bytes = "0000803F"} : () -> tensor<f32>
  %3 = "graph.elementwise"(%1, %2) {fn = "mul"} : (tensor<2x3xf32>, tensor<f32>) -> tensor<2x3xf32>
  %4 = "graph.constant"() {bytes = "0000803F"} : () -> tensor<f32>
  %5 = "graph.elementwise"(%3, %4) {fn = "div"} : (tensor<2x3xf32>, tensor<f32>) -> tensor<2x3xf32>
  return %5 : tensor<2x3xf32>
}

// -----

// x * 0 may be NaN
// CHECK-LABEL: func.func @main
// CHECK: fn = "mul"

func.func @main(%arg0: tensor<3xf32>) -> tensor<3xf32> {
  %0 = "graph.constant"() {bytes = "00000000"} : () -> tensor<f32>
  %1 = "graph.elementwise"(%arg0, %0) {fn = "mul"} : (tensor<3xf32>, tensor<f32>) -> tensor<3xf32>
  return %1 : tensor<3xf32>
}

// -----

// casts that lose nothing; f16 loses
// CHECK-LABEL: func.func @main
// CHECK: %[[A:.*]] = "graph.cast"(%arg0) {to = f16}
// CHECK-NEXT: %[[B:.*]] = "graph.cast"(%[[A]]) {to = f32}
// CHECK-NEXT: return %arg0, %[[B]]

func.func @main(%arg0: tensor<3xf32>) -> (tensor<3xf32>, tensor<3xf32>) {
  %0 = "graph.cast"(%arg0) {to = f64} : (tensor<3xf32>) -> tensor<3xf64>
  %1 = "graph.cast"(%0) {to = f32} : (tensor<3xf64>) -> tensor<3xf32>
  %2 = "graph.cast"(%arg0) {to = f16} : (tensor<3xf32>) -> tensor<3xf16>
  %3 = "graph.cast"(%2) {to = f32} : (tensor<3xf16>) -> tensor<3xf32>
  return %1, %3 : tensor<3xf32>, tensor<3xf32>
}

// -----

// keys as the dynamo exporter transposes them
// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[T:.*]] = "graph.transpose"(%arg0) {perm = [0, 2, 3, 1]}
// CHECK-NEXT: return %[[T]]

func.func @main(%arg0: tensor<1x128x12x64xf32>) -> tensor<1x12x64x128xf32> {
  %0 = "graph.transpose"(%arg0) {perm = [0, 2, 1, 3]} : (tensor<1x128x12x64xf32>) -> tensor<1x12x128x64xf32>
  %1 = "graph.reshape"(%0) {shape = [12, 128, 64]} : (tensor<1x12x128x64xf32>) -> tensor<12x128x64xf32>
  %2 = "graph.transpose"(%1) {perm = [0, 2, 1]} : (tensor<12x128x64xf32>) -> tensor<12x64x128xf32>
  %3 = "graph.reshape"(%2) {shape = [1, 12, 64, 128]} : (tensor<12x64x128xf32>) -> tensor<1x12x64x128xf32>
  return %3 : tensor<1x12x64x128xf32>
}

// -----

// a transpose of dimensions of 1 is a reshape
// CHECK-LABEL: func.func @main
// CHECK-NEXT: {{.*}}"graph.reshape"(%arg0) {shape = [7, 1, 5, 1]}
// CHECK-NEXT: return

func.func @main(%arg0: tensor<1x7x1x5xf32>) -> tensor<7x1x5x1xf32> {
  %0 = "graph.transpose"(%arg0) {perm = [1, 0, 3, 2]} : (tensor<1x7x1x5xf32>) -> tensor<7x1x5x1xf32>
  return %0 : tensor<7x1x5x1xf32>
}

// -----

// q, k, v taken from a stack (torchvision vit) are slices
// CHECK-LABEL: func.func @main
// CHECK: "graph.slice"(%arg0) {sizes = [5, 1, 8], starts = [0, 0, 0]
// CHECK: "graph.slice"(%arg0) {sizes = [5, 1, 8], starts = [0, 0, 8]
// CHECK: "graph.slice"(%arg0) {sizes = [5, 1, 8], starts = [0, 0, 16]
// CHECK-NOT: graph.gather

func.func @main(%arg0: tensor<5x1x24xf32>) -> (tensor<2x5x4xf32>, tensor<2x5x4xf32>, tensor<2x5x4xf32>) {
  %0 = "graph.reshape"(%arg0) {shape = [1, 5, 1, 3, 8]} : (tensor<5x1x24xf32>) -> tensor<1x5x1x3x8xf32>
  %1 = "graph.transpose"(%0) {perm = [3, 1, 2, 0, 4]} : (tensor<1x5x1x3x8xf32>) -> tensor<3x5x1x1x8xf32>
  %2 = "graph.reshape"(%1) {shape = [3, 5, 1, 8]} : (tensor<3x5x1x1x8xf32>) -> tensor<3x5x1x8xf32>
  %3 = "graph.constant"() {bytes = "0000000000000000"} : () -> tensor<i64>
  %4 = "graph.gather"(%2, %3) {axis = 0 : i64} : (tensor<3x5x1x8xf32>, tensor<i64>) -> tensor<5x1x8xf32>
  %5 = "graph.constant"() {bytes = "0100000000000000"} : () -> tensor<i64>
  %6 = "graph.gather"(%2, %5) {axis = 0 : i64} : (tensor<3x5x1x8xf32>, tensor<i64>) -> tensor<5x1x8xf32>
  %7 = "graph.constant"() {bytes = "0200000000000000"} : () -> tensor<i64>
  %8 = "graph.gather"(%2, %7) {axis = 0 : i64} : (tensor<3x5x1x8xf32>, tensor<i64>) -> tensor<5x1x8xf32>
  %9 = "graph.reshape"(%4) {shape = [5, 2, 4]} : (tensor<5x1x8xf32>) -> tensor<5x2x4xf32>
  %10 = "graph.transpose"(%9) {perm = [1, 0, 2]} : (tensor<5x2x4xf32>) -> tensor<2x5x4xf32>
  %11 = "graph.reshape"(%6) {shape = [5, 2, 4]} : (tensor<5x1x8xf32>) -> tensor<5x2x4xf32>
  %12 = "graph.transpose"(%11) {perm = [1, 0, 2]} : (tensor<5x2x4xf32>) -> tensor<2x5x4xf32>
  %13 = "graph.reshape"(%8) {shape = [5, 2, 4]} : (tensor<5x1x8xf32>) -> tensor<5x2x4xf32>
  %14 = "graph.transpose"(%13) {perm = [1, 0, 2]} : (tensor<5x2x4xf32>) -> tensor<2x5x4xf32>
  return %10, %12, %14 : tensor<2x5x4xf32>, tensor<2x5x4xf32>, tensor<2x5x4xf32>
}

// -----

// operands broadcast by themselves
// CHECK-LABEL: func.func @main
// CHECK-NEXT: {{.*}}"graph.elementwise"(%arg0, %arg1) {fn = "div"}
// CHECK-NEXT: return

func.func @main(%arg0: tensor<3x4xf32>, %arg1: tensor<3x1xf32>) -> tensor<3x4xf32> {
  %0 = "graph.broadcast"(%arg1) {shape = [3, 4]} : (tensor<3x1xf32>) -> tensor<3x4xf32>
  %1 = "graph.elementwise"(%arg0, %0) {fn = "div"} : (tensor<3x4xf32>, tensor<3x4xf32>) -> tensor<3x4xf32>
  return %1 : tensor<3x4xf32>
}

// -----

// pads, concats and slices that do nothing
// CHECK-LABEL: func.func @main
// CHECK-NEXT: return %arg0

func.func @main(%arg0: tensor<3x4xf32>) -> tensor<3x4xf32> {
  %0 = "graph.pad"(%arg0) {high = [0, 0], low = [0, 0]} : (tensor<3x4xf32>) -> tensor<3x4xf32>
  %1 = "graph.concat"(%0) {axis = 0 : i64} : (tensor<3x4xf32>) -> tensor<3x4xf32>
  %2 = "graph.slice"(%1) {sizes = [3, 4], starts = [0, 0], steps = [1, 1]} : (tensor<3x4xf32>) -> tensor<3x4xf32>
  return %2 : tensor<3x4xf32>
}
