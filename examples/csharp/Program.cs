// Not run: written from the source of onnxruntime's C# API (the package Microsoft.ML.OnnxRuntime).
//
//     dotnet run digits.jumprelu.onnx /absolute/path/jr_onnx_ops.so
using System;
using System.Linq;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;

using var options = new SessionOptions();
options.RegisterCustomOpLibrary(args[1]); // leave it out, and the function in the model runs
using var session = new InferenceSession(args[0], options);

var image = new DenseTensor<float>(new[] { 1, 1, 8, 8 });
using var results = session.Run(new[] { NamedOnnxValue.CreateFromTensor("image", image) });
Console.WriteLine(string.Join(", ", results.First().AsEnumerable<float>()));
