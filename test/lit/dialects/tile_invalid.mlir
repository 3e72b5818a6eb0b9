// tile: every rule of the ops, broken once; the message names the op and the rule.
// RUN: %mlc-opt %s --split-input-file --verify-diagnostics

func.func @argument_types(%x: tensor<4xf32>) {
  // expected-error@below {{'tile.graph' op block arguments ['tensor<5xf32>'] must have the operands' types ['tensor<4xf32>']}}
  %r = "tile.graph"(%x) ({
  ^bb0(%a: tensor<5xf32>):
    "tile.yield"(%a) : (tensor<5xf32>) -> ()
  }) : (tensor<4xf32>) -> tensor<5xf32>
  return
}

// -----

func.func @no_yield(%x: tensor<4xf32>) {
  // expected-error@below {{'tile.graph' op body must end in tile.yield}}
  %r = "tile.graph"(%x) ({
  ^bb0(%a: tensor<4xf32>):
    "flow.yield"(%a) : (tensor<4xf32>) -> ()
  }) : (tensor<4xf32>) -> tensor<4xf32>
  return
}

// -----

func.func @two_blocks(%x: tensor<4xf32>) {
  // expected-error@below {{'tile.graph' op must have one block}}
  %r = "tile.graph"(%x) ({
  ^bb0(%a: tensor<4xf32>):
    "tile.yield"(%a) : (tensor<4xf32>) -> ()
  ^bb1(%b: tensor<4xf32>):
    "tile.yield"(%b) : (tensor<4xf32>) -> ()
  }) : (tensor<4xf32>) -> tensor<4xf32>
  return
}

// -----

func.func @result_types(%x: tensor<4xf32>) {
  // expected-error@below {{'tile.graph' op yields ['tensor<4xf32>'] but has results ['tensor<5xf32>']}}
  %r = "tile.graph"(%x) ({
  ^bb0(%a: tensor<4xf32>):
    "tile.yield"(%a) : (tensor<4xf32>) -> ()
  }) : (tensor<4xf32>) -> tensor<5xf32>
  return
}

// -----

func.func @view(%x: tensor<2x3xf32>, %y: f32) {
  // expected-error@below {{'tile.view' op must keep element type and count, got tensor<2x3xf32> and tensor<7xf32>}}
  %0 = "tile.view"(%x) : (tensor<2x3xf32>) -> tensor<7xf32>
  // expected-error@below {{'tile.view' op must keep element type and count, got tensor<2x3xf32> and tensor<6xi32>}}
  %1 = "tile.view"(%x) : (tensor<2x3xf32>) -> tensor<6xi32>
  // expected-error@below {{'tile.view' op needs ranked tensors, got f32 and f32}}
  %2 = "tile.view"(%y) : (f32) -> f32
  return
}

// -----

func.func @map(%p: tensor<4x8x16xf32>) {
  // expected-error@below {{'tile.map' op stores tensor<8x60xf32> as [6, 8, 16], got tensor<4x8x16xf32>}}
  %0 = "tile.map"(%p) {width = 16, columns = 1, order = [0], group = 20} : (tensor<4x8x16xf32>) -> tensor<8x60xf32>
  // expected-error@below {{'tile.map' op has columns 1, order [0], panels of 32 in groups of 16}}
  %1 = "tile.map"(%p) {width = 32, columns = 1, order = [0], group = 16} : (tensor<4x8x16xf32>) -> tensor<8x64xf32>
  // expected-error@below {{'tile.map' op has columns 1, order [1], panels of 16 in groups of 64}}
  %2 = "tile.map"(%p) {width = 16, columns = 1, order = [1], group = 64} : (tensor<4x8x16xf32>) -> tensor<8x64xf32>
  return
}

// -----

func.func @weight(%x: tensor<4xf32>) {
  // expected-error@below {{'tile.weight' op takes 0 operands, got 1}}
  %0 = "tile.weight"(%x) {key = "w"} : (tensor<4xf32>) -> tensor<4xf32>
  // expected-error@below {{'tile.weight' op needs attribute 'key' (str)}}
  %1 = "tile.weight"() : () -> tensor<4xf32>
  return
}
