// graph, values between elements: the example of each op reads and prints the same through text and bytecode.
// RUN: %roundtrip

// CHECK-LABEL: func.func @resample(
// CHECK: "graph.resample"(%{{.*}}) {axis = 2 : i64}
func.func @resample(%x: tensor<1x3x4xf32>, %i: tensor<8x2xi64>, %w: tensor<8x2xf32>) {
  %y = "graph.resample"(%x, %i, %w) {axis = 2} : (tensor<1x3x4xf32>, tensor<8x2xi64>, tensor<8x2xf32>) -> tensor<1x3x8xf32>
  return
}

// CHECK-LABEL: func.func @grid_sample(
// CHECK: "graph.grid_sample"(%{{.*}}) {mode = "linear", padding = "zeros"}
func.func @grid_sample(%x: tensor<1x3x8x9xf32>, %g: tensor<1x4x5x2xf32>) {
  %y = "graph.grid_sample"(%x, %g) {mode = "linear", padding = "zeros"}
    : (tensor<1x3x8x9xf32>, tensor<1x4x5x2xf32>) -> tensor<1x3x4x5xf32>
  return
}

// CHECK-LABEL: func.func @deform_sample(
// CHECK: "graph.deform_sample"(%{{.*}}) {dilations = [1, 1], groups = 1 : i64, kernel = [2, 2], pads = [0, 0], strides = [1, 1]}
func.func @deform_sample(%x: tensor<1x3x3x3xf32>, %o: tensor<1x8x2x2xf32>) {
  %y = "graph.deform_sample"(%x, %o) {kernel = [2, 2], strides = [1, 1], dilations = [1, 1], pads = [0, 0], groups = 1}
    : (tensor<1x3x3x3xf32>, tensor<1x8x2x2xf32>) -> tensor<1x3x4x2x2xf32>
  return
}

// CHECK-LABEL: func.func @roi_align(
// CHECK: "graph.roi_align"(%{{.*}}) {half_pixel = true, height = 5 : i64, mode = "avg", sampling = 2 : i64, scale = 1.000000e+00 : f64, width = 5 : i64}
func.func @roi_align(%x: tensor<1x3x10x10xf32>, %r: tensor<3x4xf32>, %b: tensor<3xi64>) {
  %y = "graph.roi_align"(%x, %r, %b) {mode = "avg", height = 5, width = 5, sampling = 2, scale = 1.0, half_pixel = true}
    : (tensor<1x3x10x10xf32>, tensor<3x4xf32>, tensor<3xi64>) -> tensor<3x3x5x5xf32>
  return
}

// CHECK-LABEL: func.func @roi_max(
// CHECK: "graph.roi_max"(%{{.*}}) {height = 2 : i64, scale = 5.000000e-01 : f64, width = 2 : i64}
func.func @roi_max(%x: tensor<1x3x8x8xf32>, %r: tensor<3x5xf32>) {
  %y = "graph.roi_max"(%x, %r) {height = 2, width = 2, scale = 0.5}
    : (tensor<1x3x8x8xf32>, tensor<3x5xf32>) -> tensor<3x3x2x2xf32>
  return
}
