// RUN: skim-opt %s --split-input-file --verify-diagnostics

// expected-error @+1 {{expected words of 16 or 32 bits, got 8}}
#a = #skim.layout<word = 8, lanes = 16>

// -----

// expected-error @+1 {{expected 8, 16 or 32 lanes, got 12}}
#b = #skim.layout<word = 16, lanes = 12>
