"""`python -m jr_onnx`: the command line, where the script `jr-onnx` is not on the path."""

import sys

from jr_onnx.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
