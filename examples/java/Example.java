// Not run: written from the source of onnxruntime's Java API (com.microsoft.onnxruntime:onnxruntime).
//
//     java -cp onnxruntime.jar Example.java digits.jumprelu.onnx /absolute/path/jr_onnx_ops.so
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import java.util.Arrays;
import java.util.Map;

public class Example {
  public static void main(String[] arguments) throws OrtException {
    OrtEnvironment environment = OrtEnvironment.getEnvironment();
    try (OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
      options.registerCustomOpLibrary(arguments[1]);  // leave it out, and the function in the model runs
      float[][][][] image = new float[1][1][8][8];
      try (OrtSession session = environment.createSession(arguments[0], options);
          OnnxTensor tensor = OnnxTensor.createTensor(environment, image);
          OrtSession.Result result = session.run(Map.of("image", tensor))) {
        System.out.println(Arrays.deepToString((float[][]) result.get(0).getValue()));
      }
    }
  }
}
