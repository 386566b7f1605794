// RUN: skim-opt %s --split-input-file --verify-diagnostics

func.func @load_count(%p: !llvm.ptr) {
  // expected-error @below {{expected a count from 0 to 16, got 17}}
  %0 = lane.load %p first 17 : vector<16xi8>
  return
}

// -----

func.func @spread_bits(%bytes: vector<16xi8>) {
  // expected-error @below {{expected bits from 1 to 8, got 9}}
  %0 = lane.spread %bytes bits 9 : vector<16xi8> -> vector<8xi32>
  return
}

// -----

func.func @spread_bytes(%bytes: vector<8xi8>) {
  // expected-error @below {{expected at least 12 bytes for the codes, got 8}}
  %0 = lane.spread %bytes bits 3 : vector<8xi8> -> vector<32xi16>
  return
}

// -----

func.func @lookup_entries(%table: vector<6xf32>, %q: vector<16xi32>) {
  // expected-error @below {{expected a power of two table entries, got 6}}
  %0 = lane.lookup %table, %q : vector<6xf32>, vector<16xi32> -> vector<16xf32>
  return
}

// -----

func.func @lookup_width(%table: vector<8xbf16>, %q: vector<16xi32>) {
  // expected-error @below {{expected codes as wide as the table's entries, 16 bits, got 'i32'}}
  %0 = lane.lookup %table, %q : vector<8xbf16>, vector<16xi32> -> vector<16xbf16>
  return
}

// -----

func.func @dot_lanes(%a: vector<16xbf16>, %acc: vector<16xf32>) {
  // expected-error @below {{expected 32 factors, got 16}}
  %0 = lane.dot_bf16 %a, %a, %acc : vector<16xbf16>, vector<16xf32>
  return
}

// -----

func.func @reduce_lanes(%v: vector<6xf32>) {
  // expected-error @below {{expected a power of two lanes, got 6}}
  %0 = lane.reduce %v : vector<6xf32>
  return
}
