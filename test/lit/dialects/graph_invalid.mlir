// graph: every rule of the ops, broken once; the message names the op and the rule.
// RUN: %mlc-opt %s --verify-diagnostics

// -- fields: any op

func.func @fields(%t2x3xf128: tensor<2x3xf128>, %t2x3xf32: tensor<2x3xf32>, %t2x3xi32: tensor<2x3xi32>, %tdx3xf32: tensor<?x3xf32>) {
  // expected-error@below {{'graph.softmax' op needs attribute 'axis' (int)}}
  %1 = "graph.softmax"(%t2x3xf32) : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // expected-error@below {{'graph.softmax' op attribute 'axis' must be int, got 'a'}}
  %2 = "graph.softmax"(%t2x3xf32) {axis = "a"} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // expected-error@below {{'graph.softmax' op has no attribute 'colour'}}
  %3 = "graph.softmax"(%t2x3xf32) {axis = 1, colour = 3} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // expected-error@below {{'graph.softmax' op takes 1 operand, got 2}}
  %4 = "graph.softmax"(%t2x3xf32, %t2x3xf32) {axis = 1} : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  // expected-error@below {{'graph.softmax' op has result types tensor<2x4xf32> but its shape rule gives tensor<2x3xf32>}}
  %5 = "graph.softmax"(%t2x3xf32) {axis = 1} : (tensor<2x3xf32>) -> tensor<2x4xf32>
  // expected-error@below {{'graph.softmax' op needs floats and an axis within the rank}}
  %6 = "graph.softmax"(%t2x3xf32) {axis = 2} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // expected-error@below {{'graph.softmax' op needs floats and an axis within the rank}}
  %7 = "graph.softmax"(%t2x3xi32) {axis = 1} : (tensor<2x3xi32>) -> tensor<2x3xi32>
  // expected-error@below {{'graph.softmax' op expected a static tensor of a known element type}}
  %8 = "graph.softmax"(%t2x3xf128) {axis = 1} : (tensor<2x3xf128>) -> tensor<2x3xf128>
  // expected-error@below {{'graph.softmax' op expected a static tensor of a known element type}}
  %9 = "graph.softmax"(%tdx3xf32) {axis = 1} : (tensor<?x3xf32>) -> tensor<?x3xf32>
  return
}

// -- elementwise

func.func @elementwise(%t2x3xf32: tensor<2x3xf32>, %t2x3xi32: tensor<2x3xi32>, %t4x3xf32: tensor<4x3xf32>) {
  // expected-error@below {{'graph.elementwise' op knows no function 'frob'}}
  %10 = "graph.elementwise"(%t2x3xf32) {fn = "frob"} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // expected-error@below {{'graph.elementwise' op 'add' takes 2 operands, got 1}}
  %11 = "graph.elementwise"(%t2x3xf32) {fn = "add"} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // expected-error@below {{'graph.elementwise' op 'elu' takes 1 params (alpha)}}
  %12 = "graph.elementwise"(%t2x3xf32) {fn = "elu"} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // expected-error@below {{'graph.elementwise' op 'power' takes an integer exponent >= 0, got 0.5}}
  %13 = "graph.elementwise"(%t2x3xf32) {fn = "power", params = [0.5]} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // expected-error@below {{'graph.elementwise' op 'where' needs a bool condition, got f32}}
  %14 = "graph.elementwise"(%t2x3xf32, %t2x3xf32, %t2x3xf32) {fn = "where"}
      : (tensor<2x3xf32>, tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  // expected-error@below {{'graph.elementwise' op 'add' needs operands of one element type, got f32, i32}}
  %15 = "graph.elementwise"(%t2x3xf32, %t2x3xi32) {fn = "add"} : (tensor<2x3xf32>, tensor<2x3xi32>) -> tensor<2x3xf32>
  // expected-error@below {{'graph.elementwise' op 'exp' is not defined on i32}}
  %16 = "graph.elementwise"(%t2x3xi32) {fn = "exp"} : (tensor<2x3xi32>) -> tensor<2x3xi32>
  // expected-error@below {{'graph.elementwise' op shapes [2, 3], [4, 3] do not broadcast}}
  %17 = "graph.elementwise"(%t2x3xf32, %t4x3xf32) {fn = "add"} : (tensor<2x3xf32>, tensor<4x3xf32>) -> tensor<2x3xf32>
  // expected-error@below {{'graph.cast' op has round_mode 'odd', expected one of up, down, nearest}}
  %18 = "graph.cast"(%t2x3xf32) {to = i32, round_mode = "odd"} : (tensor<2x3xf32>) -> tensor<2x3xi32>
  // expected-error@below {{'graph.cast' op knows no element type f128}}
  %19 = "graph.cast"(%t2x3xf32) {to = f128} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // expected-error@below {{'graph.bitcast' op needs types of one width, got f32 (32 bits) and i16 (16 bits)}}
  %20 = "graph.bitcast"(%t2x3xf32) {to = i16} : (tensor<2x3xf32>) -> tensor<2x3xi16>
  return
}

// -- contraction

func.func @contraction(%t2x3xf32: tensor<2x3xf32>, %t2x3xi1: tensor<2x3xi1>, %t2x4xf32: tensor<2x4xf32>, %t3x2xi1: tensor<3x2xi1>,
    %t3x2xi32: tensor<3x2xi32>, %t4x5xf32: tensor<4x5xf32>, %t4xf32: tensor<4xf32>) {
  // expected-error@below {{'graph.matmul' op needs operands of rank 2 or more}}
  %21 = "graph.matmul"(%t4xf32, %t4x5xf32) : (tensor<4xf32>, tensor<4x5xf32>) -> tensor<5xf32>
  // expected-error@below {{'graph.matmul' op cannot multiply [2, 3] by [4, 5]: 3 is not 4}}
  %22 = "graph.matmul"(%t2x3xf32, %t4x5xf32) : (tensor<2x3xf32>, tensor<4x5xf32>) -> tensor<2x5xf32>
  // expected-error@below {{'graph.matmul' op needs operands of one numeric element type, got f32 and i32}}
  %23 = "graph.matmul"(%t2x3xf32, %t3x2xi32) : (tensor<2x3xf32>, tensor<3x2xi32>) -> tensor<2x2xf32>
  // expected-error@below {{'graph.matmul' op needs operands of one numeric element type, got i1 and i1}}
  %24 = "graph.matmul"(%t2x3xi1, %t3x2xi1) : (tensor<2x3xi1>, tensor<3x2xi1>) -> tensor<2x2xi1>
  // expected-error@below {{'graph.einsum' op 'ab,bc->ac' needs 2 operands of one element type}}
  %25 = "graph.einsum"(%t2x3xf32) {equation = "ab,bc->ac"} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // expected-error@below {{'graph.einsum' op the result of 'ab->aa' repeats a letter or has one that no operand has}}
  %26 = "graph.einsum"(%t2x3xf32) {equation = "ab->aa"} : (tensor<2x3xf32>) -> tensor<2x2xf32>
  // expected-error@below {{'graph.einsum' op 'ab' is not an equation of the form ab,bc->ac}}
  %27 = "graph.einsum"(%t2x3xf32) {equation = "ab"} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // expected-error@below {{'graph.einsum' op 'abc->a' gives 3 letters to an operand of rank 2}}
  %28 = "graph.einsum"(%t2x3xf32) {equation = "abc->a"} : (tensor<2x3xf32>) -> tensor<2xf32>
  // expected-error@below {{'graph.einsum' op 'ab,ab->a' uses 'b' for extents 3 and 4}}
  %29 = "graph.einsum"(%t2x3xf32, %t2x4xf32) {equation = "ab,ab->a"} : (tensor<2x3xf32>, tensor<2x4xf32>) -> tensor<2xf32>
  // expected-error@below {{'graph.determinant' op needs a batch of square float matrices}}
  %30 = "graph.determinant"(%t2x3xf32) : (tensor<2x3xf32>) -> tensor<f32>
  return
}

// -- movement

func.func @movement(%t2x3xf32: tensor<2x3xf32>, %t2x4xf32: tensor<2x4xf32>, %t2xf32: tensor<2xf32>, %t2xi64: tensor<2xi64>,
    %tf32: tensor<f32>) {
  // expected-error@below {{'graph.reshape' op cannot give shape [7] to the 6 elements of [2, 3]}}
  %31 = "graph.reshape"(%t2x3xf32) {shape = [7]} : (tensor<2x3xf32>) -> tensor<7xf32>
  // expected-error@below {{'graph.transpose' op has perm [0, 0], expected a permutation of 0..1}}
  %32 = "graph.transpose"(%t2x3xf32) {perm = [0, 0]} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // expected-error@below {{'graph.slice' op needs 2 starts, sizes and steps other than 0}}
  %33 = "graph.slice"(%t2x3xf32) {starts = [0], sizes = [2, 3], steps = [1, 1]} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // expected-error@below {{'graph.slice' op reads 1 to 3 of dimension 1, which has 3 elements}}
  %34 = "graph.slice"(%t2x3xf32) {starts = [0, 1], sizes = [2, 3], steps = [1, 1]} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // expected-error@below {{'graph.concat' op needs an operand}}
  %35 = "graph.concat"() {axis = 0} : () -> tensor<2x3xf32>
  // expected-error@below {{'graph.concat' op has axis 2, expected one in [0, 1]}}
  %36 = "graph.concat"(%t2x3xf32) {axis = 2} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // expected-error@below {{'graph.concat' op needs operands that differ in dimension 0 only}}
  %37 = "graph.concat"(%t2x3xf32, %t2x4xf32) {axis = 0} : (tensor<2x3xf32>, tensor<2x4xf32>) -> tensor<4x3xf32>
  // expected-error@below {{'graph.pad' op takes the data and, in mode 'constant', a scalar of the data's element type}}
  %38 = "graph.pad"(%t2x3xf32, %tf32) {low = [0, 1], high = [0, 0], mode = "edge"} : (tensor<2x3xf32>, tensor<f32>) -> tensor<2x4xf32>
  // expected-error@below {{'graph.pad' op has mode 'mirror', expected one of constant, edge, reflect, wrap}}
  %39 = "graph.pad"(%t2x3xf32) {low = [0, 1], high = [0, 0], mode = "mirror"} : (tensor<2x3xf32>) -> tensor<2x4xf32>
  // expected-error@below {{'graph.pad' op needs a low and a high pad for each of 2 dimensions}}
  %40 = "graph.pad"(%t2x3xf32) {low = [1], high = [0, 0]} : (tensor<2x3xf32>) -> tensor<3x3xf32>
  // expected-error@below {{'graph.pad' op cannot pad dimension 1 of 3 elements by -3 and 4 in mode 'edge'}}
  %41 = "graph.pad"(%t2x3xf32) {low = [0, -3], high = [0, 4], mode = "edge"} : (tensor<2x3xf32>) -> tensor<2x4xf32>
  // expected-error@below {{'graph.broadcast' op shapes [2, 3], [2, 4] do not broadcast}}
  %42 = "graph.broadcast"(%t2x3xf32) {shape = [2, 4]} : (tensor<2x3xf32>) -> tensor<2x4xf32>
  // expected-error@below {{'graph.gather' op has axis 2, expected one in [0, 1]}}
  %43 = "graph.gather"(%t2x3xf32, %t2xi64) {axis = 2} : (tensor<2x3xf32>, tensor<2xi64>) -> tensor<2x3xf32>
  // expected-error@below {{'graph.gather' op needs integer indices, got f32}}
  %44 = "graph.gather"(%t2x3xf32, %t2xf32) {axis = 0} : (tensor<2x3xf32>, tensor<2xf32>) -> tensor<2x3xf32>
  // expected-error@below {{'graph.iota' op has shape [2, 3] and dim 2, expected dim to be one of its dimensions}}
  %45 = "graph.iota"() {shape = [2, 3], dim = 2, to = i64} : () -> tensor<2x3xi64>
  return
}

// -- reductions

func.func @reductions(%t2x3xf32: tensor<2x3xf32>, %t2x3xi1: tensor<2x3xi1>, %t2x3xi32: tensor<2x3xi32>) {
  // expected-error@below {{'graph.reduce' op knows no reduction 'median'}}
  %46 = "graph.reduce"(%t2x3xf32) {kind = "median", axes = [0]} : (tensor<2x3xf32>) -> tensor<3xf32>
  // expected-error@below {{'graph.reduce' op 'sum' is not defined on i1}}
  %47 = "graph.reduce"(%t2x3xi1) {kind = "sum", axes = [0]} : (tensor<2x3xi1>) -> tensor<3xi1>
  // expected-error@below {{'graph.reduce' op needs sorted axes within rank 2}}
  %48 = "graph.reduce"(%t2x3xf32) {kind = "sum", axes = [1, 0]} : (tensor<2x3xf32>) -> tensor<f32>
  // expected-error@below {{'graph.arg' op has kind 'mid', expected max or min}}
  %49 = "graph.arg"(%t2x3xf32) {kind = "mid", axis = 0} : (tensor<2x3xf32>) -> tensor<3xi64>
  // expected-error@below {{'graph.scan' op cannot run 'sum' along axis 2 of tensor<2x3xf32>}}
  %50 = "graph.scan"(%t2x3xf32) {kind = "sum", axis = 2} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // expected-error@below {{'graph.layer_norm' op needs floats and an axis within the rank}}
  %51 = "graph.layer_norm"(%t2x3xf32) {axis = 2, eps = 0.1} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // expected-error@below {{'graph.rms_norm' op needs floats and an axis within the rank}}
  %52 = "graph.rms_norm"(%t2x3xi32) {axis = 1, eps = 0.1} : (tensor<2x3xi32>) -> tensor<2x3xi32>
  return
}

// -- attention

func.func @attention(%t1x2x4x6xf16: tensor<1x2x4x6xf16>, %t1x2x4x6xf32: tensor<1x2x4x6xf32>, %t1x3x4x6xf32: tensor<1x3x4x6xf32>,
    %t1x8x4x6xf32: tensor<1x8x4x6xf32>, %t4x2xf32: tensor<4x2xf32>, %t4x3xf32: tensor<4x3xf32>,
    %t4x4xi32: tensor<4x4xi32>, %t4x5xf32: tensor<4x5xf32>, %t5x3xf32: tensor<5x3xf32>) {
  // expected-error@below {{'graph.attention' op takes q, k, v of rank 4 and perhaps a mask}}
  %53 = "graph.attention"(%t1x8x4x6xf32, %t1x2x4x6xf32) {scale = 1.0} : (tensor<1x8x4x6xf32>, tensor<1x2x4x6xf32>) -> tensor<1x8x4x6xf32>
  // expected-error@below {{'graph.attention' op needs q, k, v of one float type, got f32, f16, f32}}
  %54 = "graph.attention"(%t1x8x4x6xf32, %t1x2x4x6xf16, %t1x2x4x6xf32) {scale = 1.0}
      : (tensor<1x8x4x6xf32>, tensor<1x2x4x6xf16>, tensor<1x2x4x6xf32>) -> tensor<1x8x4x6xf32>
  // expected-error@below {{'graph.attention' op has q [1, 8, 4, 6], k [1, 3, 4, 6], v [1, 3, 4, 6]: batch, heads, lengths or widths dis}}
  %55 = "graph.attention"(%t1x8x4x6xf32, %t1x3x4x6xf32, %t1x3x4x6xf32) {scale = 1.0}
      : (tensor<1x8x4x6xf32>, tensor<1x3x4x6xf32>, tensor<1x3x4x6xf32>) -> tensor<1x8x4x6xf32>
  // expected-error@below {{'graph.attention' op needs a mask of bool or float, got i32}}
  %56 = "graph.attention"(%t1x8x4x6xf32, %t1x2x4x6xf32, %t1x2x4x6xf32, %t4x4xi32) {scale = 1.0}
      : (tensor<1x8x4x6xf32>, tensor<1x2x4x6xf32>, tensor<1x2x4x6xf32>, tensor<4x4xi32>) -> tensor<1x8x4x6xf32>
  // expected-error@below {{'graph.attention' op has a mask [4, 5] that does not broadcast to [1, 8, 4, 4]}}
  %57 = "graph.attention"(%t1x8x4x6xf32, %t1x2x4x6xf32, %t1x2x4x6xf32, %t4x5xf32) {scale = 1.0}
      : (tensor<1x8x4x6xf32>, tensor<1x2x4x6xf32>, tensor<1x2x4x6xf32>, tensor<4x5xf32>) -> tensor<1x8x4x6xf32>
  // expected-error@below {{'graph.rotary' op cannot rotate tensor<1x8x4x6xf32> by tensor<4x3xf32> and tensor<4x2xf32>}}
  %58 = "graph.rotary"(%t1x8x4x6xf32, %t4x3xf32, %t4x2xf32) : (tensor<1x8x4x6xf32>, tensor<4x3xf32>, tensor<4x2xf32>) -> tensor<1x8x4x6xf32>
  // expected-error@below {{'graph.rotary' op has angles [5, 3] that do not broadcast to [1, 8, 4, 3]}}
  %59 = "graph.rotary"(%t1x8x4x6xf32, %t5x3xf32, %t5x3xf32) : (tensor<1x8x4x6xf32>, tensor<5x3xf32>, tensor<5x3xf32>) -> tensor<1x8x4x6xf32>
  return
}

// -- windows

func.func @windows(%t1x4x8xf32: tensor<1x4x8xf32>, %t4x6x3xf32: tensor<4x6x3xf32>, %t6x4x3xf16: tensor<6x4x3xf16>,
    %t6x4x3xf32: tensor<6x4x3xf32>) {
  // expected-error@below {{'graph.conv' op has layout 'chwn', expected one of nchw, nhwc}}
  %60 = "graph.conv"(%t1x4x8xf32, %t6x4x3xf32) {strides = [1], dilations = [1], layout = "chwn"}
      : (tensor<1x4x8xf32>, tensor<6x4x3xf32>) -> tensor<1x6x6xf32>
  // expected-error@below {{'graph.conv' op needs x, w of one rank with 1 strides and dilations}}
  %61 = "graph.conv"(%t1x4x8xf32, %t6x4x3xf32) {strides = [1, 1], dilations = [1]}
      : (tensor<1x4x8xf32>, tensor<6x4x3xf32>) -> tensor<1x6x6xf32>
  // expected-error@below {{'graph.conv' op needs positive strides and dilations}}
  %62 = "graph.conv"(%t1x4x8xf32, %t6x4x3xf32) {strides = [0], dilations = [1]}
      : (tensor<1x4x8xf32>, tensor<6x4x3xf32>) -> tensor<1x6x6xf32>
  // expected-error@below {{'graph.conv' op needs operands of one element type, got f32 and f16}}
  %63 = "graph.conv"(%t1x4x8xf32, %t6x4x3xf16) {strides = [1], dilations = [1]}
      : (tensor<1x4x8xf32>, tensor<6x4x3xf16>) -> tensor<1x6x6xf32>
  // expected-error@below {{'graph.conv' op with 3 groups cannot take 4 channels to 6 by weights of 4 channels}}
  %64 = "graph.conv"(%t1x4x8xf32, %t6x4x3xf32) {strides = [1], dilations = [1], groups = 3}
      : (tensor<1x4x8xf32>, tensor<6x4x3xf32>) -> tensor<1x6x6xf32>
  // expected-error@below {{'graph.conv' op has a window of 9 over 8 elements in spatial dimension 0}}
  %65 = "graph.conv"(%t1x4x8xf32, %t6x4x3xf32) {strides = [1], dilations = [4]}
      : (tensor<1x4x8xf32>, tensor<6x4x3xf32>) -> tensor<1x6x6xf32>
  // expected-error@below {{'graph.conv_transpose' op needs 1 pads and result extents}}
  %66 = "graph.conv_transpose"(%t1x4x8xf32, %t4x6x3xf32) {strides = [1], dilations = [1], pads = [], size = [10]}
      : (tensor<1x4x8xf32>, tensor<4x6x3xf32>) -> tensor<1x6x10xf32>
  // expected-error@below {{'graph.conv_transpose' op with 3 groups cannot apply weights of 4 channels to 4 channels}}
  %67 = "graph.conv_transpose"(%t1x4x8xf32, %t4x6x3xf32) {strides = [1], dilations = [1], pads = [0], size = [10], groups = 3}
      : (tensor<1x4x8xf32>, tensor<4x6x3xf32>) -> tensor<1x6x10xf32>
  // expected-error@below {{'graph.pool' op pools 1 dimensions from 2 of [1, 4, 8] with strides [1, 1] and dilations [1]}}
  %68 = "graph.pool"(%t1x4x8xf32) {kind = "max", kernel = [2], strides = [1, 1], dilations = [1], axis = 2}
      : (tensor<1x4x8xf32>) -> tensor<1x4x7xf32>
  // expected-error@below {{'graph.pool' op needs positive kernel, strides and dilations}}
  %69 = "graph.pool"(%t1x4x8xf32) {kind = "max", kernel = [2], strides = [0], dilations = [1], axis = 2}
      : (tensor<1x4x8xf32>) -> tensor<1x4x7xf32>
  // expected-error@below {{'graph.pool' op has a window of 9 over 8 elements in dimension 2}}
  %70 = "graph.pool"(%t1x4x8xf32) {kind = "max", kernel = [9], strides = [1], dilations = [1], axis = 2}
      : (tensor<1x4x8xf32>) -> tensor<1x4x7xf32>
  // expected-error@below {{'graph.pool' op has kind 'mid', expected one of max, sum}}
  %71 = "graph.pool"(%t1x4x8xf32) {kind = "mid", kernel = [2], strides = [1], dilations = [1], axis = 2}
      : (tensor<1x4x8xf32>) -> tensor<1x4x7xf32>
  // expected-error@below {{'graph.max_pool_indices' op pools the last 1 dimensions, but axis is 1, low [0] and size [8]}}
  %72 = "graph.max_pool_indices"(%t1x4x8xf32) {kernel = [2], strides = [2], dilations = [1], axis = 1, low = [0], size = [8]}
      : (tensor<1x4x8xf32>) -> tensor<1x4x4xi64>
  return
}

// -- sampling

func.func @sampling(%t1x3x2x2xf32: tensor<1x3x2x2xf32>, %t1x3x3x3xf32: tensor<1x3x3x3xf32>, %t1x3x8x9xf32: tensor<1x3x8x9xf32>,
    %t1x4x5x2xf32: tensor<1x4x5x2xf32>, %t1x4x5x3xf32: tensor<1x4x5x3xf32>, %t1x4x8xf32: tensor<1x4x8xf32>,
    %t1x7x2x2xf32: tensor<1x7x2x2xf32>, %t1x8x2x2xf32: tensor<1x8x2x2xf32>, %t3x4xf32: tensor<3x4xf32>,
    %t3x5xf32: tensor<3x5xf32>, %t3xi64: tensor<3xi64>, %t6x2xf16: tensor<6x2xf16>, %t6x2xi64: tensor<6x2xi64>,
    %t6x3xf32: tensor<6x3xf32>) {
  // expected-error@below {{'graph.resample' op needs i64 indices and weights of one shape [outputs, taps]}}
  %73 = "graph.resample"(%t1x4x8xf32, %t6x2xi64, %t6x3xf32) {axis = 2}
      : (tensor<1x4x8xf32>, tensor<6x2xi64>, tensor<6x3xf32>) -> tensor<1x4x6xf32>
  // expected-error@below {{'graph.resample' op needs floats and weights of f32, got f32 and f16}}
  %74 = "graph.resample"(%t1x4x8xf32, %t6x2xi64, %t6x2xf16) {axis = 2}
      : (tensor<1x4x8xf32>, tensor<6x2xi64>, tensor<6x2xf16>) -> tensor<1x4x6xf32>
  // expected-error@below {{'graph.grid_sample' op has mode 'nearly' and padding 'zeros', expected one of ('nearest', 'linear', 'cubic')}}
  %75 = "graph.grid_sample"(%t1x3x8x9xf32, %t1x4x5x2xf32) {mode = "nearly", padding = "zeros"}
      : (tensor<1x3x8x9xf32>, tensor<1x4x5x2xf32>) -> tensor<1x3x4x5xf32>
  // expected-error@below {{'graph.grid_sample' op cannot sample tensor<1x3x8x9xf32> at tensor<1x4x5x3xf32>}}
  %76 = "graph.grid_sample"(%t1x3x8x9xf32, %t1x4x5x3xf32) {mode = "linear", padding = "zeros"}
      : (tensor<1x3x8x9xf32>, tensor<1x4x5x3xf32>) -> tensor<1x3x4x5xf32>
  // expected-error@below {{'graph.deform_sample' op cannot sample tensor<1x3x3x3xf32> at offsets tensor<1x7x2x2xf32> in 1 groups of 4 t}}
  %77 = "graph.deform_sample"(%t1x3x3x3xf32, %t1x7x2x2xf32)
      {kernel = [2, 2], strides = [1, 1], dilations = [1, 1], pads = [0, 0], groups = 1}
      : (tensor<1x3x3x3xf32>, tensor<1x7x2x2xf32>) -> tensor<1x3x4x2x2xf32>
  // expected-error@below {{'graph.deform_sample' op has a mask [1, 3, 2, 2] for offsets [1, 8, 2, 2]}}
  %78 = "graph.deform_sample"(%t1x3x3x3xf32, %t1x8x2x2xf32, %t1x3x2x2xf32)
      {kernel = [2, 2], strides = [1, 1], dilations = [1, 1], pads = [0, 0], groups = 1}
      : (tensor<1x3x3x3xf32>, tensor<1x8x2x2xf32>, tensor<1x3x2x2xf32>) -> tensor<1x3x4x2x2xf32>
  // expected-error@below {{'graph.roi_align' op cannot pool tensor<1x3x8x9xf32> in regions tensor<3x5xf32> of batch tensor<3xi64>}}
  %79 = "graph.roi_align"(%t1x3x8x9xf32, %t3x5xf32, %t3xi64)
      {mode = "avg", height = 5, width = 5, sampling = 2, scale = 1.0, half_pixel = true}
      : (tensor<1x3x8x9xf32>, tensor<3x5xf32>, tensor<3xi64>) -> tensor<3x3x5x5xf32>
  // expected-error@below {{'graph.roi_max' op cannot pool tensor<1x3x8x9xf32> in regions tensor<3x4xf32>}}
  %80 = "graph.roi_max"(%t1x3x8x9xf32, %t3x4xf32) {height = 2, width = 2, scale = 0.5}
      : (tensor<1x3x8x9xf32>, tensor<3x4xf32>) -> tensor<3x3x2x2xf32>
  return
}

// -- indexing

func.func @indexing(%t2x1xf32: tensor<2x1xf32>, %t2x3xf32: tensor<2x3xf32>, %t2x3xi64: tensor<2x3xi64>,
    %t2x4x16x8xf32: tensor<2x4x16x8xf32>, %t2x4x1x7xf32: tensor<2x4x1x7xf32>, %t2x4x1x8xf32: tensor<2x4x1x8xf32>,
    %t2x4xf32: tensor<2x4xf32>, %t2x4xi1: tensor<2x4xi1>, %t2x4xi64: tensor<2x4xi64>, %t2xi64: tensor<2xi64>,
    %t3x4xf32: tensor<3x4xf32>, %t3x4xi1: tensor<3x4xi1>, %t4x2xi64: tensor<4x2xi64>, %t4xi1: tensor<4xi1>,
    %t4xi64: tensor<4xi64>, %ti32: tensor<i32>) {
  // expected-error@below {{'graph.gather_elements' op needs an axis in [0, 1] and integer indices of rank 2}}
  %81 = "graph.gather_elements"(%t3x4xf32, %t2x4xi64) {axis = 2} : (tensor<3x4xf32>, tensor<2x4xi64>) -> tensor<2x4xf32>
  // expected-error@below {{'graph.gather_elements' op has indices [4, 2] that reach outside of [3, 4] in a dimension other than 1}}
  %82 = "graph.gather_elements"(%t3x4xf32, %t4x2xi64) {axis = 1} : (tensor<3x4xf32>, tensor<4x2xi64>) -> tensor<4x2xf32>
  // expected-error@below {{'graph.gather_nd' op needs integer indices of rank 1 or more}}
  %83 = "graph.gather_nd"(%t3x4xf32, %t2x1xf32) {batch_dims = 0} : (tensor<3x4xf32>, tensor<2x1xf32>) -> tensor<2x4xf32>
  // expected-error@below {{'graph.gather_nd' op cannot index [3, 4] by [2, 3] with 0 batch dimensions}}
  %84 = "graph.gather_nd"(%t3x4xf32, %t2x3xi64) {batch_dims = 0} : (tensor<3x4xf32>, tensor<2x3xi64>) -> tensor<2x4xf32>
  // expected-error@below {{'graph.scatter_elements' op has reduction 'avg', expected one of none, add, mul, min, max}}
  %85 = "graph.scatter_elements"(%t3x4xf32, %t2x4xi64, %t2x4xf32) {axis = 0, reduction = "avg"}
      : (tensor<3x4xf32>, tensor<2x4xi64>, tensor<2x4xf32>) -> tensor<3x4xf32>
  // expected-error@below {{'graph.scatter_elements' op needs updates tensor<2x4xf32>}}
  %86 = "graph.scatter_elements"(%t3x4xf32, %t2x4xi64, %t2x3xf32) {axis = 0}
      : (tensor<3x4xf32>, tensor<2x4xi64>, tensor<2x3xf32>) -> tensor<3x4xf32>
  // expected-error@below {{'graph.scatter_elements' op cannot add bools}}
  %87 = "graph.scatter_elements"(%t3x4xi1, %t2x4xi64, %t2x4xi1) {axis = 0, reduction = "add"}
      : (tensor<3x4xi1>, tensor<2x4xi64>, tensor<2x4xi1>) -> tensor<3x4xi1>
  // expected-error@below {{'graph.update' op needs an update of the cache's type, an integer start per batch entry, an axis in [1, 3]}}
  %88 = "graph.update"(%t2x4x16x8xf32, %t2x4x1x8xf32, %t2xi64) {axis = 0}
      : (tensor<2x4x16x8xf32>, tensor<2x4x1x8xf32>, tensor<2xi64>) -> tensor<2x4x16x8xf32>
  // expected-error@below {{'graph.update' op cannot write [2, 4, 1, 7] into [2, 4, 16, 8] along dimension 2}}
  %89 = "graph.update"(%t2x4x16x8xf32, %t2x4x1x7xf32, %t2xi64) {axis = 2}
      : (tensor<2x4x16x8xf32>, tensor<2x4x1x7xf32>, tensor<2xi64>) -> tensor<2x4x16x8xf32>
  // expected-error@below {{'graph.trilu' op takes matrices and an i64 scalar}}
  %90 = "graph.trilu"(%t3x4xf32, %ti32) {upper = false} : (tensor<3x4xf32>, tensor<i32>) -> tensor<3x4xf32>
  // expected-error@below {{'graph.reverse_sequence' op needs two different dimensions of [3, 4], got time 0 and batch 0}}
  %91 = "graph.reverse_sequence"(%t3x4xf32, %t4xi64) {time = 0, batch = 0} : (tensor<3x4xf32>, tensor<4xi64>) -> tensor<3x4xf32>
  // expected-error@below {{'graph.compress' op needs a bool for at most each slice of tensor<3x4xf32>}}
  %92:2 = "graph.compress"(%t3x4xf32, %t4xi1) : (tensor<3x4xf32>, tensor<4xi1>) -> (tensor<3x4xf32>, tensor<i64>)
  return
}

// -- order

func.func @order(%t1x2x6xf32: tensor<1x2x6xf32>, %t1x6x3xf32: tensor<1x6x3xf32>, %t1x6x4xf32: tensor<1x6x4xf32>,
    %t3x4xf32: tensor<3x4xf32>, %t3xf32: tensor<3xf32>, %tf32: tensor<f32>, %ti64: tensor<i64>) {
  // expected-error@below {{'graph.topk' op cannot take 5 elements along dimension 1 of [3, 4]}}
  %93:2 = "graph.topk"(%t3x4xf32) {k = 5, axis = 1} : (tensor<3x4xf32>) -> (tensor<3x5xf32>, tensor<3x5xi64>)
  // expected-error@below {{'graph.unique' op takes rows (a tensor of rank 2)}}
  %94:5 = "graph.unique"(%t3xf32) : (tensor<3xf32>) -> (tensor<3xf32>, tensor<3xi64>, tensor<3xi64>, tensor<3xi64>, tensor<i64>)
  // expected-error@below {{'graph.nms' op takes f32 boxes [B, N, 4] and scores [B, C, N]}}
  %95:2 = "graph.nms"(%t1x6x3xf32, %t1x2x6xf32, %ti64, %tf32, %tf32) {rows = 12}
      : (tensor<1x6x3xf32>, tensor<1x2x6xf32>, tensor<i64>, tensor<f32>, tensor<f32>) -> (tensor<12x3xi64>, tensor<i64>)
  // expected-error@below {{'graph.nms' op takes an i64 and two f32 scalars, and at most one row per score}}
  %96:2 = "graph.nms"(%t1x6x4xf32, %t1x2x6xf32, %ti64, %tf32, %tf32) {rows = 13}
      : (tensor<1x6x4xf32>, tensor<1x2x6xf32>, tensor<i64>, tensor<f32>, tensor<f32>) -> (tensor<13x3xi64>, tensor<i64>)
  return
}

// -- constants

func.func @constants() {
  // expected-error@below {{'graph.constant' op needs 8 bytes for tensor<2xf32>, got 4}}
  %97 = "graph.constant"() {bytes = "0000803F"} : () -> tensor<2xf32>
  // expected-error@below {{'graph.weight' op needs attribute 'key' (str)}}
  %98 = "graph.weight"() : () -> tensor<2xf32>
  return
}
