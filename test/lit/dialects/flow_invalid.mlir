// flow: every rule of the ops, broken once; the message names the op and the rule.
// RUN: %mlc-opt %s --split-input-file --verify-diagnostics

func.func @if_condition(%c: tensor<2xi1>, %a: tensor<4xf32>) {
  // expected-error@below {{'flow.if' op condition must be one element, got tensor<2xi1>}}
  %r = "flow.if"(%c) ({ "flow.yield"(%a) : (tensor<4xf32>) -> () }, { "flow.yield"(%a) : (tensor<4xf32>) -> () }) : (tensor<2xi1>) -> tensor<4xf32>
  return
}

// -----

func.func @if_types(%c: tensor<i1>, %a: tensor<4xf32>, %b: tensor<5xf32>) {
  // expected-error@below {{'flow.if' op yields ['tensor<5xf32>'], expected ['tensor<4xf32>']}}
  %r = "flow.if"(%c) ({ "flow.yield"(%a) : (tensor<4xf32>) -> () }, { "flow.yield"(%b) : (tensor<5xf32>) -> () }) : (tensor<i1>) -> tensor<4xf32>
  return
}

// -----

func.func @one_region(%c: tensor<i1>, %a: tensor<4xf32>) {
  // expected-error@below {{'flow.if' op has 2 regions, got 1}}
  %r = "flow.if"(%c) ({ "flow.yield"(%a) : (tensor<4xf32>) -> () }) : (tensor<i1>) -> tensor<4xf32>
  return
}

// -----

func.func @no_yield(%c: tensor<i1>, %a: tensor<4xf32>) {
  // expected-error@below {{'flow.if' op needs regions of one block that end in flow.yield}}
  %r = "flow.if"(%c) ({ "flow.yield"(%a) : (tensor<4xf32>) -> () }, { "tile.yield"(%a) : (tensor<4xf32>) -> () }) : (tensor<i1>) -> tensor<4xf32>
  return
}

// -----

func.func @trip(%x: tensor<4xf32>) {
  // expected-error@below {{'flow.loop' op with trip -1 and 1 carried values has 1 operands and 1 results}}
  %r = "flow.loop"(%x) ({
  ^bb0(%i: tensor<i64>, %s: tensor<4xf32>):
    "flow.yield"(%s) : (tensor<4xf32>) -> ()
  }) {trip = -1, carried = 1} : (tensor<4xf32>) -> tensor<4xf32>
  return
}

// -----

func.func @carried_count(%x: tensor<4xf32>) {
  // expected-error@below {{'flow.loop' op with trip 3 and 2 carried values has 1 operands and 1 results}}
  %r = "flow.loop"(%x) ({
  ^bb0(%i: tensor<i64>, %s: tensor<4xf32>):
    "flow.yield"(%s) : (tensor<4xf32>) -> ()
  }) {trip = 3, carried = 2} : (tensor<4xf32>) -> tensor<4xf32>
  return
}

// -----

func.func @no_iteration(%x: tensor<4xf32>) {
  // expected-error@below {{'flow.loop' op body takes tensor<i64> and 1 values, got ['tensor<4xf32>']}}
  %r = "flow.loop"(%x) ({
  ^bb0(%s: tensor<4xf32>):
    "flow.yield"(%s) : (tensor<4xf32>) -> ()
  }) {trip = 3, carried = 1} : (tensor<4xf32>) -> tensor<4xf32>
  return
}

// -----

func.func @carried_type(%x: tensor<4xf32>, %y: tensor<5xf32>) {
  // expected-error@below {{'flow.loop' op yields carried ['tensor<5xf32>'], expected ['tensor<4xf32>']}}
  %r = "flow.loop"(%x) ({
  ^bb0(%i: tensor<i64>, %s: tensor<4xf32>):
    "flow.yield"(%y) : (tensor<5xf32>) -> ()
  }) {trip = 3, carried = 1} : (tensor<4xf32>) -> tensor<4xf32>
  return
}

// -----

func.func @yield_count(%x: tensor<4xf32>) {
  // expected-error@below {{'flow.loop' op yields 2 values for 1 results}}
  %r = "flow.loop"(%x) ({
  ^bb0(%i: tensor<i64>, %s: tensor<4xf32>):
    "flow.yield"(%s, %s) : (tensor<4xf32>, tensor<4xf32>) -> ()
  }) {trip = 3, carried = 1} : (tensor<4xf32>) -> tensor<4xf32>
  return
}

// -----

func.func @slice_type(%x: tensor<4x2xf32>) {
  // expected-error@below {{'flow.loop' op slices tensor<4x2xf32> as tensor<2xf32>: expected a first dimension of 3 dropped}}
  %r = "flow.loop"(%x) ({
  ^bb0(%i: tensor<i64>, %s: tensor<2xf32>):
    "flow.yield"(%s) : (tensor<2xf32>) -> ()
  }) {trip = 3, carried = 0} : (tensor<4x2xf32>) -> tensor<3x2xf32>
  return
}

// -----

func.func @reverse(%x: tensor<3x2xf32>) {
  // expected-error@below {{'flow.loop' op reverse has 1 flags for 2 sliced values}}
  %r = "flow.loop"(%x) ({
  ^bb0(%i: tensor<i64>, %s: tensor<2xf32>):
    "flow.yield"(%s) : (tensor<2xf32>) -> ()
  }) {trip = 3, carried = 0, reverse = [true]} : (tensor<3x2xf32>) -> tensor<3x2xf32>
  return
}

// -----

func.func @while_limit(%n: tensor<2xi64>, %c: tensor<i1>, %x: tensor<4xf32>) {
  // expected-error@below {{'flow.while' op limit must be one element, got tensor<2xi64>}}
  %r = "flow.while"(%n, %c, %x) ({
  ^bb0(%i: tensor<i64>, %s: tensor<4xf32>):
    "flow.yield"(%c, %s) : (tensor<i1>, tensor<4xf32>) -> ()
  }) : (tensor<2xi64>, tensor<i1>, tensor<4xf32>) -> tensor<4xf32>
  return
}

// -----

func.func @while_types(%n: tensor<i64>, %c: tensor<i1>, %x: tensor<4xf32>) {
  // expected-error@below {{'flow.while' op yields ['tensor<i1>'], expected ['tensor<4xf32>']}}
  %r = "flow.while"(%n, %c, %x) ({
  ^bb0(%i: tensor<i64>, %s: tensor<4xf32>):
    "flow.yield"(%c, %c) : (tensor<i1>, tensor<i1>) -> ()
  }) : (tensor<i64>, tensor<i1>, tensor<4xf32>) -> tensor<4xf32>
  return
}

