"""What JumpReLU buys: jumps chosen on data, attacks that adapt to them, and a verdict."""
