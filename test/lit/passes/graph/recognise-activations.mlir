// Activations in the spellings of exporters.
// RUN: %mlc-opt %s --split-input-file --simplify --recognise --simplify | filecheck %s

// dynamo
// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Y:.*]] = "graph.elementwise"(%arg0) {fn = "gelu"}
// CHECK-NEXT: return %[[Y]]

func.func @main(%arg0: tensor<3x5xf32>) -> tensor<3x5xf32> {
  %0 = "graph.constant"() {bytes = "F304B53F"} : () -> tensor<f32>
  %1 = "graph.elementwise"(%arg0, %0) {fn = "div"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %2 = "graph.elementwise"(%1) {fn = "erf"} : (tensor<3x5xf32>) -> tensor<3x5xf32>
  %3 = "graph.constant"() {bytes = "0000803F"} : () -> tensor<f32>
  %4 = "graph.elementwise"(%2, %3) {fn = "add"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %5 = "graph.constant"() {bytes = "0000003F"} : () -> tensor<f32>
  %6 = "graph.elementwise"(%5, %4) {fn = "mul"} : (tensor<f32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  %7 = "graph.elementwise"(%arg0, %6) {fn = "mul"} : (tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  return %7 : tensor<3x5xf32>
}

// -----

// torchscript
// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Y:.*]] = "graph.elementwise"(%arg0) {fn = "gelu"}
// CHECK-NEXT: return %[[Y]]

func.func @main(%arg0: tensor<3x5xf32>) -> tensor<3x5xf32> {
  %0 = "graph.constant"() {bytes = "F304B53F"} : () -> tensor<f32>
  %1 = "graph.elementwise"(%arg0, %0) {fn = "div"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %2 = "graph.elementwise"(%1) {fn = "erf"} : (tensor<3x5xf32>) -> tensor<3x5xf32>
  %3 = "graph.constant"() {bytes = "0000803F"} : () -> tensor<f32>
  %4 = "graph.elementwise"(%2, %3) {fn = "add"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %5 = "graph.elementwise"(%arg0, %4) {fn = "mul"} : (tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  %6 = "graph.constant"() {bytes = "0000003F"} : () -> tensor<f32>
  %7 = "graph.elementwise"(%5, %6) {fn = "mul"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  return %7 : tensor<3x5xf32>
}

// -----

// half first
// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Y:.*]] = "graph.elementwise"(%arg0) {fn = "gelu"}
// CHECK-NEXT: return %[[Y]]

func.func @main(%arg0: tensor<3x5xf32>) -> tensor<3x5xf32> {
  %0 = "graph.constant"() {bytes = "0000003F"} : () -> tensor<f32>
  %1 = "graph.elementwise"(%0, %arg0) {fn = "mul"} : (tensor<f32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  %2 = "graph.constant"() {bytes = "F304353F"} : () -> tensor<f32>
  %3 = "graph.elementwise"(%arg0, %2) {fn = "mul"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %4 = "graph.elementwise"(%3) {fn = "erf"} : (tensor<3x5xf32>) -> tensor<3x5xf32>
  %5 = "graph.constant"() {bytes = "0000803F"} : () -> tensor<f32>
  %6 = "graph.elementwise"(%5, %4) {fn = "add"} : (tensor<f32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  %7 = "graph.elementwise"(%1, %6) {fn = "mul"} : (tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  return %7 : tensor<3x5xf32>
}

// -----

// written digits
// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Y:.*]] = "graph.elementwise"(%arg0) {fn = "gelu"}
// CHECK-NEXT: return %[[Y]]

func.func @main(%arg0: tensor<3x5xf32>) -> tensor<3x5xf32> {
  %0 = "graph.constant"() {bytes = "0000003F"} : () -> tensor<f32>
  %1 = "graph.elementwise"(%arg0, %0) {fn = "mul"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %2 = "graph.constant"() {bytes = "2905353F"} : () -> tensor<f32>
  %3 = "graph.elementwise"(%2, %arg0) {fn = "mul"} : (tensor<f32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  %4 = "graph.elementwise"(%3) {fn = "erf"} : (tensor<3x5xf32>) -> tensor<3x5xf32>
  %5 = "graph.constant"() {bytes = "0000803F"} : () -> tensor<f32>
  %6 = "graph.elementwise"(%4, %5) {fn = "add"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %7 = "graph.elementwise"(%1, %6) {fn = "mul"} : (tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  return %7 : tensor<3x5xf32>
}

// -----

// half inside
// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Y:.*]] = "graph.elementwise"(%arg0) {fn = "gelu"}
// CHECK-NEXT: return %[[Y]]

func.func @main(%arg0: tensor<3x5xf32>) -> tensor<3x5xf32> {
  %0 = "graph.constant"() {bytes = "F304353F"} : () -> tensor<f32>
  %1 = "graph.elementwise"(%arg0, %0) {fn = "mul"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %2 = "graph.elementwise"(%1) {fn = "erf"} : (tensor<3x5xf32>) -> tensor<3x5xf32>
  %3 = "graph.constant"() {bytes = "0000003F"} : () -> tensor<f32>
  %4 = "graph.elementwise"(%3, %2) {fn = "mul"} : (tensor<f32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  %5 = "graph.constant"() {bytes = "0000003F"} : () -> tensor<f32>
  %6 = "graph.elementwise"(%4, %5) {fn = "add"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %7 = "graph.elementwise"(%arg0, %6) {fn = "mul"} : (tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  return %7 : tensor<3x5xf32>
}

// -----

// distributed
// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Y:.*]] = "graph.elementwise"(%arg0) {fn = "gelu"}
// CHECK-NEXT: return %[[Y]]

func.func @main(%arg0: tensor<3x5xf32>) -> tensor<3x5xf32> {
  %0 = "graph.constant"() {bytes = "0000003F"} : () -> tensor<f32>
  %1 = "graph.elementwise"(%arg0, %0) {fn = "mul"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %2 = "graph.constant"() {bytes = "0000003F"} : () -> tensor<f32>
  %3 = "graph.elementwise"(%arg0, %2) {fn = "mul"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %4 = "graph.constant"() {bytes = "F304B53F"} : () -> tensor<f32>
  %5 = "graph.elementwise"(%arg0, %4) {fn = "div"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %6 = "graph.elementwise"(%5) {fn = "erf"} : (tensor<3x5xf32>) -> tensor<3x5xf32>
  %7 = "graph.elementwise"(%3, %6) {fn = "mul"} : (tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  %8 = "graph.elementwise"(%1, %7) {fn = "add"} : (tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  return %8 : tensor<3x5xf32>
}

// -----

// gpt2
// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Y:.*]] = "graph.elementwise"(%arg0) {fn = "gelu_tanh"}
// CHECK-NEXT: return %[[Y]]

func.func @main(%arg0: tensor<3x5xf32>) -> tensor<3x5xf32> {
  %0 = "graph.constant"() {bytes = "00004040"} : () -> tensor<f32>
  %1 = "graph.elementwise"(%arg0, %0) {fn = "pow"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %2 = "graph.constant"() {bytes = "1327373D"} : () -> tensor<f32>
  %3 = "graph.elementwise"(%1, %2) {fn = "mul"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %4 = "graph.elementwise"(%arg0, %3) {fn = "add"} : (tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  %5 = "graph.constant"() {bytes = "2A424C3F"} : () -> tensor<f32>
  %6 = "graph.elementwise"(%4, %5) {fn = "mul"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %7 = "graph.constant"() {bytes = "0000003F"} : () -> tensor<f32>
  %8 = "graph.elementwise"(%arg0, %7) {fn = "mul"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %9 = "graph.elementwise"(%6) {fn = "tanh"} : (tensor<3x5xf32>) -> tensor<3x5xf32>
  %10 = "graph.constant"() {bytes = "0000803F"} : () -> tensor<f32>
  %11 = "graph.elementwise"(%9, %10) {fn = "add"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %12 = "graph.elementwise"(%8, %11) {fn = "mul"} : (tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  return %12 : tensor<3x5xf32>
}

// -----

// products
// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Y:.*]] = "graph.elementwise"(%arg0) {fn = "gelu_tanh"}
// CHECK-NEXT: return %[[Y]]

func.func @main(%arg0: tensor<3x5xf32>) -> tensor<3x5xf32> {
  %0 = "graph.elementwise"(%arg0, %arg0) {fn = "mul"} : (tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  %1 = "graph.elementwise"(%arg0, %0) {fn = "mul"} : (tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  %2 = "graph.constant"() {bytes = "1327373D"} : () -> tensor<f32>
  %3 = "graph.elementwise"(%2, %1) {fn = "mul"} : (tensor<f32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  %4 = "graph.elementwise"(%arg0, %3) {fn = "add"} : (tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  %5 = "graph.constant"() {bytes = "2A424C3F"} : () -> tensor<f32>
  %6 = "graph.elementwise"(%5, %4) {fn = "mul"} : (tensor<f32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  %7 = "graph.constant"() {bytes = "0000003F"} : () -> tensor<f32>
  %8 = "graph.elementwise"(%arg0, %7) {fn = "mul"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %9 = "graph.elementwise"(%6) {fn = "tanh"} : (tensor<3x5xf32>) -> tensor<3x5xf32>
  %10 = "graph.constant"() {bytes = "0000803F"} : () -> tensor<f32>
  %11 = "graph.elementwise"(%9, %10) {fn = "add"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %12 = "graph.elementwise"(%8, %11) {fn = "mul"} : (tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  return %12 : tensor<3x5xf32>
}

// -----

// factored
// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Y:.*]] = "graph.elementwise"(%arg0) {fn = "gelu_tanh"}
// CHECK-NEXT: return %[[Y]]

func.func @main(%arg0: tensor<3x5xf32>) -> tensor<3x5xf32> {
  %0 = "graph.constant"() {bytes = "2A424C3F"} : () -> tensor<f32>
  %1 = "graph.elementwise"(%arg0, %0) {fn = "mul"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %2 = "graph.elementwise"(%arg0, %arg0) {fn = "mul"} : (tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  %3 = "graph.constant"() {bytes = "1327373D"} : () -> tensor<f32>
  %4 = "graph.elementwise"(%2, %3) {fn = "mul"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %5 = "graph.constant"() {bytes = "0000803F"} : () -> tensor<f32>
  %6 = "graph.elementwise"(%5, %4) {fn = "add"} : (tensor<f32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  %7 = "graph.elementwise"(%1, %6) {fn = "mul"} : (tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  %8 = "graph.constant"() {bytes = "0000003F"} : () -> tensor<f32>
  %9 = "graph.elementwise"(%arg0, %8) {fn = "mul"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %10 = "graph.elementwise"(%7) {fn = "tanh"} : (tensor<3x5xf32>) -> tensor<3x5xf32>
  %11 = "graph.constant"() {bytes = "0000803F"} : () -> tensor<f32>
  %12 = "graph.elementwise"(%10, %11) {fn = "add"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %13 = "graph.elementwise"(%9, %12) {fn = "mul"} : (tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  return %13 : tensor<3x5xf32>
}

// -----

// distributed
// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Y:.*]] = "graph.elementwise"(%arg0) {fn = "gelu_tanh"}
// CHECK-NEXT: return %[[Y]]

func.func @main(%arg0: tensor<3x5xf32>) -> tensor<3x5xf32> {
  %0 = "graph.constant"() {bytes = "2A424C3F"} : () -> tensor<f32>
  %1 = "graph.elementwise"(%arg0, %0) {fn = "mul"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %2 = "graph.constant"() {bytes = "00004040"} : () -> tensor<f32>
  %3 = "graph.elementwise"(%arg0, %2) {fn = "pow"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %4 = "graph.constant"() {bytes = "7922123D"} : () -> tensor<f32>
  %5 = "graph.elementwise"(%3, %4) {fn = "mul"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %6 = "graph.elementwise"(%1, %5) {fn = "add"} : (tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  %7 = "graph.constant"() {bytes = "0000003F"} : () -> tensor<f32>
  %8 = "graph.elementwise"(%arg0, %7) {fn = "mul"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %9 = "graph.elementwise"(%6) {fn = "tanh"} : (tensor<3x5xf32>) -> tensor<3x5xf32>
  %10 = "graph.constant"() {bytes = "0000803F"} : () -> tensor<f32>
  %11 = "graph.elementwise"(%9, %10) {fn = "add"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %12 = "graph.elementwise"(%8, %11) {fn = "mul"} : (tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  return %12 : tensor<3x5xf32>
}

// -----

// swish
// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Y:.*]] = "graph.elementwise"(%arg0) {fn = "swish"{{.*}}}
// CHECK-NEXT: return %[[Y]]

func.func @main(%arg0: tensor<3x5xf32>) -> tensor<3x5xf32> {
  %0 = "graph.elementwise"(%arg0) {fn = "sigmoid"} : (tensor<3x5xf32>) -> tensor<3x5xf32>
  %1 = "graph.elementwise"(%0, %arg0) {fn = "mul"} : (tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  return %1 : tensor<3x5xf32>
}

// -----

// swish, sigmoid written out
// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Y:.*]] = "graph.elementwise"(%arg0) {fn = "swish"{{.*}}}
// CHECK-NEXT: return %[[Y]]

func.func @main(%arg0: tensor<3x5xf32>) -> tensor<3x5xf32> {
  %0 = "graph.elementwise"(%arg0) {fn = "neg"} : (tensor<3x5xf32>) -> tensor<3x5xf32>
  %1 = "graph.elementwise"(%0) {fn = "exp"} : (tensor<3x5xf32>) -> tensor<3x5xf32>
  %2 = "graph.constant"() {bytes = "0000803F"} : () -> tensor<f32>
  %3 = "graph.elementwise"(%1, %2) {fn = "add"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %4 = "graph.constant"() {bytes = "0000803F"} : () -> tensor<f32>
  %5 = "graph.elementwise"(%4, %3) {fn = "div"} : (tensor<f32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  %6 = "graph.elementwise"(%arg0, %5) {fn = "mul"} : (tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  return %6 : tensor<3x5xf32>
}

// -----

// swish, quick gelu
// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Y:.*]] = "graph.elementwise"(%arg0) {fn = "swish"{{.*}}}
// CHECK-NEXT: return %[[Y]]

func.func @main(%arg0: tensor<3x5xf32>) -> tensor<3x5xf32> {
  %0 = "graph.constant"() {bytes = "23DBD93F"} : () -> tensor<f32>
  %1 = "graph.elementwise"(%0, %arg0) {fn = "mul"} : (tensor<f32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  %2 = "graph.elementwise"(%1) {fn = "sigmoid"} : (tensor<3x5xf32>) -> tensor<3x5xf32>
  %3 = "graph.elementwise"(%arg0, %2) {fn = "mul"} : (tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  return %3 : tensor<3x5xf32>
}

// -----

// hard_swish
// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Y:.*]] = "graph.elementwise"(%arg0) {fn = "hard_swish"{{.*}}}
// CHECK-NEXT: return %[[Y]]

func.func @main(%arg0: tensor<3x5xf32>) -> tensor<3x5xf32> {
  %0 = "graph.constant"() {bytes = "00004040"} : () -> tensor<f32>
  %1 = "graph.elementwise"(%arg0, %0) {fn = "add"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %2 = "graph.constant"() {bytes = "00000000"} : () -> tensor<f32>
  %3 = "graph.elementwise"(%1, %2) {fn = "max"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %4 = "graph.constant"() {bytes = "0000C040"} : () -> tensor<f32>
  %5 = "graph.elementwise"(%3, %4) {fn = "min"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %6 = "graph.elementwise"(%arg0, %5) {fn = "mul"} : (tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  %7 = "graph.constant"() {bytes = "0000C040"} : () -> tensor<f32>
  %8 = "graph.elementwise"(%6, %7) {fn = "div"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  return %8 : tensor<3x5xf32>
}

// -----

// hard_swish, op
// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Y:.*]] = "graph.elementwise"(%arg0) {fn = "hard_swish"{{.*}}}
// CHECK-NEXT: return %[[Y]]

func.func @main(%arg0: tensor<3x5xf32>) -> tensor<3x5xf32> {
  %0 = "graph.elementwise"(%arg0) {fn = "hard_sigmoid", params = [0.16666666666666666, 5.000000e-01]} : (tensor<3x5xf32>) -> tensor<3x5xf32>
  %1 = "graph.elementwise"(%arg0, %0) {fn = "mul"} : (tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  return %1 : tensor<3x5xf32>
}

// -----

// hard_swish, other order
// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Y:.*]] = "graph.elementwise"(%arg0) {fn = "hard_swish"{{.*}}}
// CHECK-NEXT: return %[[Y]]

func.func @main(%arg0: tensor<3x5xf32>) -> tensor<3x5xf32> {
  %0 = "graph.constant"() {bytes = "00004040"} : () -> tensor<f32>
  %1 = "graph.elementwise"(%arg0, %0) {fn = "add"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %2 = "graph.constant"() {bytes = "0000C040"} : () -> tensor<f32>
  %3 = "graph.elementwise"(%1, %2) {fn = "min"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %4 = "graph.constant"() {bytes = "00000000"} : () -> tensor<f32>
  %5 = "graph.elementwise"(%3, %4) {fn = "max"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %6 = "graph.constant"() {bytes = "0000C040"} : () -> tensor<f32>
  %7 = "graph.elementwise"(%5, %6) {fn = "div"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %8 = "graph.elementwise"(%7, %arg0) {fn = "mul"} : (tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  return %8 : tensor<3x5xf32>
}

// -----

// hard_sigmoid
// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Y:.*]] = "graph.elementwise"(%arg0) {fn = "hard_sigmoid"{{.*}}}
// CHECK-NEXT: return %[[Y]]

func.func @main(%arg0: tensor<3x5xf32>) -> tensor<3x5xf32> {
  %0 = "graph.constant"() {bytes = "00004040"} : () -> tensor<f32>
  %1 = "graph.elementwise"(%arg0, %0) {fn = "add"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %2 = "graph.constant"() {bytes = "00000000"} : () -> tensor<f32>
  %3 = "graph.elementwise"(%1, %2) {fn = "max"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %4 = "graph.constant"() {bytes = "0000C040"} : () -> tensor<f32>
  %5 = "graph.elementwise"(%3, %4) {fn = "min"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %6 = "graph.constant"() {bytes = "0000C040"} : () -> tensor<f32>
  %7 = "graph.elementwise"(%5, %6) {fn = "div"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  return %7 : tensor<3x5xf32>
}

// -----

// mish
// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Y:.*]] = "graph.elementwise"(%arg0) {fn = "mish"{{.*}}}
// CHECK-NEXT: return %[[Y]]

func.func @main(%arg0: tensor<3x5xf32>) -> tensor<3x5xf32> {
  %0 = "graph.elementwise"(%arg0) {fn = "softplus"} : (tensor<3x5xf32>) -> tensor<3x5xf32>
  %1 = "graph.elementwise"(%0) {fn = "tanh"} : (tensor<3x5xf32>) -> tensor<3x5xf32>
  %2 = "graph.elementwise"(%arg0, %1) {fn = "mul"} : (tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  return %2 : tensor<3x5xf32>
}

// -----

// sigmoid
// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Y:.*]] = "graph.elementwise"(%arg0) {fn = "sigmoid"{{.*}}}
// CHECK-NEXT: return %[[Y]]

func.func @main(%arg0: tensor<3x5xf32>) -> tensor<3x5xf32> {
  %0 = "graph.constant"() {bytes = "000080BF"} : () -> tensor<f32>
  %1 = "graph.elementwise"(%arg0, %0) {fn = "mul"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %2 = "graph.elementwise"(%1) {fn = "exp"} : (tensor<3x5xf32>) -> tensor<3x5xf32>
  %3 = "graph.constant"() {bytes = "0000803F"} : () -> tensor<f32>
  %4 = "graph.elementwise"(%3, %2) {fn = "add"} : (tensor<f32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  %5 = "graph.elementwise"(%4) {fn = "reciprocal"} : (tensor<3x5xf32>) -> tensor<3x5xf32>
  return %5 : tensor<3x5xf32>
}

// -----

// not gelu: 1.5 is not the root of 2
// CHECK-LABEL: func.func @main
// CHECK-NOT: "gelu"
// CHECK: fn = "erf"

func.func @main(%arg0: tensor<3x5xf32>) -> tensor<3x5xf32> {
  %0 = "graph.constant"() {bytes = "0000C03F"} : () -> tensor<f32>
  %1 = "graph.elementwise"(%arg0, %0) {fn = "div"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %2 = "graph.elementwise"(%1) {fn = "erf"} : (tensor<3x5xf32>) -> tensor<3x5xf32>
  %3 = "graph.constant"() {bytes = "0000803F"} : () -> tensor<f32>
  %4 = "graph.elementwise"(%2, %3) {fn = "add"} : (tensor<3x5xf32>, tensor<f32>) -> tensor<3x5xf32>
  %5 = "graph.constant"() {bytes = "0000003F"} : () -> tensor<f32>
  %6 = "graph.elementwise"(%5, %4) {fn = "mul"} : (tensor<f32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  %7 = "graph.elementwise"(%arg0, %6) {fn = "mul"} : (tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  return %7 : tensor<3x5xf32>
}
