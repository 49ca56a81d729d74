# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The nodes in a stand-in for ComfyUI, written after its public contract; docs/howto/comfyui.md says what was tried in
ComfyUI itself.

It loads a folder of nodes by its path, checks a workflow as ComfyUI does before it runs, gives each node its inputs by
name, and runs everything in inference mode. Its own nodes are there with their types, and keep what they get.
"""

import importlib.util
import json
import re
import sys
import types
from pathlib import Path

import pytest
import torch

from diffusers_jova import JoVAPipeline, comfyui
from diffusers_jova.comfyui.nodes import fingerprint


WORKFLOW = json.loads((Path(__file__).parents[1] / "docs/howto/comfyui.json").read_text(encoding="utf-8"))
PAGE = (Path(__file__).parents[1] / "docs/howto/comfyui.md").read_text(encoding="utf-8")
CONVERTERS = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}


def keeping(inputs, returns=()):
    """Return the class of a node of ComfyUI's own, which returns what it gets."""
    return type(
        "OfComfyUI",
        (),
        {
            "INPUT_TYPES": classmethod(lambda cls: inputs),
            "RETURN_TYPES": returns,
            "FUNCTION": "run",
            "CATEGORY": "video",
            "run": lambda self, **values: (values,),
        },
    )


OF_COMFYUI = {
    "CreateVideo": keeping(
        {
            "required": {"images": ("IMAGE",), "fps": ("FLOAT", {"min": 1.0, "max": 120.0})},
            "optional": {"audio": ("AUDIO",)},
        },
        ("VIDEO",),
    ),
    "SaveVideo": keeping(
        {
            "required": {
                "video": ("VIDEO",),
                "filename_prefix": ("STRING", {"default": "video/ComfyUI"}),
                "format": (["auto", "mp4"], {"default": "auto"}),
                "codec": (["auto", "h264"], {"default": "auto"}),
            }
        }
    ),
    "PreviewAudio": keeping({"required": {"audio": ("AUDIO",)}}),
    "LoadImage": keeping({"required": {}}, ("IMAGE", "MASK")),
    "LoadAudio": keeping({"required": {}}, ("AUDIO",)),
}


def load_custom_node(folder):
    """Return the nodes of a folder of custom_nodes, loaded by its path, under a name that is none of a package."""
    name = str(folder).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[name]
    assert module.NODE_DISPLAY_NAME_MAPPINGS.keys() == module.NODE_CLASS_MAPPINGS.keys()
    return module.NODE_CLASS_MAPPINGS


def problems(nodes, workflow):
    """Return what ComfyUI refuses in a workflow before it runs."""
    found = []
    for number, step in workflow.items():
        node, values = nodes[step["class_type"]], step["inputs"]
        kinds = node.INPUT_TYPES()
        inputs = kinds["required"] | kinds.get("optional", {})
        found += [f"{number}: {name} is missing" for name in kinds["required"] if name not in values]
        for name, value in values.items():
            kind, options = inputs[name][0], inputs[name][1] if len(inputs[name]) > 1 else {}
            if isinstance(value, list):
                received = nodes[workflow[value[0]]["class_type"]].RETURN_TYPES[value[1]]
                found += [f"{number}: {name} takes {kind}, not {received}"] if received != kind else []
            elif isinstance(kind, list):
                found += [f"{number}: {name} is not in {kind}"] if value not in kind else []
            else:
                value = CONVERTERS[kind](value)
                outside = "min" in options and not options["min"] <= value <= options["max"]
                found += [f"{number}: {name} is outside of its bounds"] if outside else []
        check = getattr(node, "VALIDATE_INPUTS", lambda **_: True)
        known = {name: None if isinstance(value, list) else value for name, value in values.items()}
        verdict = check(**{name: known[name] for name in ("model", "lora") if name in known})
        found += [f"{number}: {verdict}"] if verdict is not True else []
    return found


def run(nodes, workflow, given=None, outputs=None):
    """Return the outputs of all nodes; `given` are those of nodes that are not run."""
    assert problems(nodes, workflow) == []
    outputs = dict(given or {}) if outputs is None else outputs

    def output(number):
        if number not in outputs:
            step = workflow[number]
            node = nodes[step["class_type"]]
            values = {
                name: output(value[0])[value[1]] if isinstance(value, list) else value
                for name, value in step["inputs"].items()
            }
            outputs[number] = getattr(node(), node.FUNCTION)(**values)
            assert len(outputs[number]) == max(len(node.RETURN_TYPES), 1)
        return outputs[number]

    with torch.inference_mode():
        for number in workflow:
            output(number)
    return outputs


def workflow_with(**inputs):
    """Return the workflow of the documentation with other inputs, as `sample={"seed": 1}`."""
    workflow = json.loads(json.dumps(WORKFLOW))
    for name, values in inputs.items():
        step = next(step for step in workflow.values() if step["class_type"].lower() == f"jova{name}".lower())
        step["inputs"] |= values
    return workflow


TEXTS = {name: text for name, text in WORKFLOW["2"]["inputs"].items() if isinstance(text, str)}


@pytest.fixture(scope="module")
def nodes():
    return load_custom_node(Path(comfyui.__file__).parent) | OF_COMFYUI


def test_the_folder_loads_by_its_path_and_as_the_page_says(nodes, tmp_path):
    folder = tmp_path / "custom_nodes" / "diffusers_jova"
    folder.mkdir(parents=True)
    line = re.search(r'echo "(from diffusers_jova[^"]+)"', PAGE)[1]
    (folder / "__init__.py").write_text(line)
    ours = {name: node for name, node in nodes.items() if name not in OF_COMFYUI}
    assert load_custom_node(folder) == ours and all(name.startswith("JoVA") for name in ours)


def test_every_input_has_a_default_within_its_bounds_and_every_node_can_be_called(nodes):
    for name, node in nodes.items():
        if name in OF_COMFYUI:
            continue
        assert len(node.RETURN_NAMES) == len(node.RETURN_TYPES) > 0 and node.CATEGORY and node.DESCRIPTION
        assert callable(getattr(node, node.FUNCTION))
        for kind, *options in node.INPUT_TYPES()["required"].values():
            if isinstance(kind, list):
                assert options[0]["default"] in kind
            elif kind in CONVERTERS:
                default = options[0]["default"]
                assert type(default) is CONVERTERS[kind] and options[0]["tooltip"]
                assert "min" not in options[0] or options[0]["min"] <= default <= options[0]["max"]


def test_a_workflow_makes_the_clip_of_one_call_to_the_bit(nodes, folder, seeded):
    outputs = run(nodes, workflow_with(loadpipeline={"model": str(folder)}, sample={"seed": 3, "num_frames": 9}))
    images, audio, fps = outputs["4"]
    once = outputs["1"][0].pipe(**TEXTS, num_frames=9, generator=seeded(3), output_type="pt")
    assert images.shape == (9, 32, 32, 3) and images.dtype == torch.float32 and 0 <= images.min() < images.max() <= 1
    assert torch.equal(images, once.frames[0].movedim(1, -1))
    assert audio["waveform"].shape == (1, 1, once.audio.shape[1]) and audio["sample_rate"] == 16000
    assert torch.equal(audio["waveform"][0], once.audio) and fps == 12.5
    assert outputs["6"][0]["video"] == {"images": images, "audio": audio, "fps": fps}


def test_an_image_and_a_recording_go_in_and_the_recording_comes_out(nodes, folder, seeded):
    image, waveform = torch.rand(1, 40, 40, 3), torch.rand(1, 2, 8000) - 0.5
    workflow = workflow_with(
        loadpipeline={"model": str(folder)},
        encode={"image": ["8", 0], "audio": ["9", 0]},
        sample={"guidance_scale": 2.0, "audio_guidance_scale": 1.5, "num_inference_steps": 1},
    )
    workflow |= {"8": {"class_type": "LoadImage", "inputs": {}}, "9": {"class_type": "LoadAudio", "inputs": {}}}
    given = {"8": (image, None), "9": ({"waveform": waveform, "sample_rate": 16000},)}
    outputs = run(nodes, workflow, given)
    images, audio, _ = outputs["4"]
    once = outputs["1"][0].pipe(
        **TEXTS,
        image=image[0].movedim(-1, 0),
        audio=waveform[0],
        audio_sampling_rate=16000,
        guidance_scale=2.0,
        audio_guidance_scale=1.5,
        num_inference_steps=1,
        generator=seeded(0),
        output_type="pt",
    )
    assert torch.equal(images, once.frames[0].movedim(1, -1))
    assert torch.equal(audio["waveform"], once.audio) and audio["sample_rate"] == 16000


def test_a_lora_acts_in_its_own_branch_of_a_workflow_alone(nodes, folder, lora, seeded):
    one_step = {"num_inference_steps": 1}
    plain = workflow_with(loadpipeline={"model": str(folder)}, sample=one_step)
    outputs = run(nodes, plain)

    def with_lora(strength):
        """Run the branch again, with the pipeline that is loaded, as ComfyUI does."""
        workflow = workflow_with(loadpipeline={"model": str(folder)}, sample=one_step | {"pipeline": ["7", 0]})
        inputs = {"pipeline": ["1", 0], "lora": str(lora), "strength": strength}
        workflow["7"] = {"class_type": "JoVALoadLora", "inputs": inputs}
        return run(nodes, workflow, {"1": outputs["1"], "2": outputs["2"]})["4"][0]

    half, whole = with_lora(0.5), with_lora(1.0)
    again = run(nodes, plain, {number: outputs[number] for number in "12"})["4"][0]
    assert torch.equal(again, outputs["4"][0])  # the other branch, for which the LoRA is taken out
    pipe = outputs["1"][0].pipe
    pipe.load_lora_weights(lora, adapter_name="loud")
    pipe.set_adapters(["loud"], [0.5])
    once = pipe(**TEXTS, num_inference_steps=1, generator=seeded(0), output_type="pt").frames[0].movedim(1, -1)
    assert torch.equal(half, once) and not torch.equal(half, whole) and not torch.equal(half, again)


def test_files_are_found_in_the_folders_of_comfyui(nodes, folder, lora, monkeypatch):
    places = {"loras": [str(lora.parent)], "diffusers": ["/nowhere", str(folder.parent)]}
    folder_paths = types.SimpleNamespace(get_folder_paths=places.__getitem__)
    monkeypatch.setitem(sys.modules, "folder_paths", folder_paths)
    assert nodes["JoVALoadPipeline"].VALIDATE_INPUTS(model=folder.name) is True
    assert nodes["JoVALoadLora"].VALIDATE_INPUTS(lora=lora.name) is True
    (loaded,) = nodes["JoVALoadLora"]().add(comfyui.nodes.LoadedPipeline(None), lora.name, 0.5)
    assert loaded.loras == ((str(lora), 0.5),)


def test_an_empty_name_is_none_in_any_folder(nodes, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "folder_paths", types.SimpleNamespace(get_folder_paths=lambda kind: [tmp_path]))
    assert nodes["JoVALoadPipeline"].VALIDATE_INPUTS(model="").startswith("There is no folder ''")
    assert nodes["JoVALoadLora"].VALIDATE_INPUTS(lora="").startswith("There is no LoRA file ''")


def test_a_name_that_another_node_gives_is_looked_for_when_it_is_there(nodes):
    workflow = workflow_with(loadpipeline={"model": ["8", 0]})
    workflow["8"] = {"class_type": "PrimitiveString", "inputs": {}}
    nodes = nodes | {"PrimitiveString": keeping({"required": {}}, ("STRING",))}
    assert problems(nodes, workflow) == [] and nodes["JoVALoadPipeline"].IS_CHANGED(model=None, dtype="auto") == ""


def test_the_arrows_beside_a_size_go_by_what_it_is_divisible_by(nodes):
    numbers = nodes["JoVASample"].INPUT_TYPES()["required"]
    for name in ("height", "width"):
        options = numbers[name][1]
        assert f"divisible by {options['step']}" in options["tooltip"]


def test_a_file_that_is_written_anew_is_read_anew(nodes, lora):
    before = nodes["JoVALoadLora"].IS_CHANGED(lora=str(lora), strength=1.0, pipeline=None)
    assert before == nodes["JoVALoadLora"].IS_CHANGED(lora=str(lora)) == fingerprint(str(lora))
    lora.write_bytes(b"longer, or shorter")
    assert nodes["JoVALoadLora"].IS_CHANGED(lora=str(lora)) != before
    assert fingerprint(str(lora.parent)) != fingerprint("jova-nano")


@pytest.fixture
def host(monkeypatch):
    """ComfyUI's modules that show progress and stop a run; what they were told is in `host.told`."""
    host = types.SimpleNamespace(told=[], stops_at=None, unloaded=0)

    class Stopped(Exception):
        pass

    class ProgressBar:
        def __init__(self, total):
            pass

        def update_absolute(self, value, total=None):
            host.told.append((value, total))

    def is_stopped():
        return host.stops_at is not None and len(host.told) >= host.stops_at

    def throw():
        if is_stopped():
            raise Stopped

    def unload():
        host.unloaded += 1

    management = types.SimpleNamespace(
        unload_all_models=unload,
        soft_empty_cache=lambda: None,
        get_torch_device=lambda: torch.device("cpu"),
        processing_interrupted=is_stopped,
        throw_exception_if_processing_interrupted=throw,
    )
    monkeypatch.setitem(sys.modules, "comfy.utils", types.SimpleNamespace(ProgressBar=ProgressBar))
    monkeypatch.setitem(sys.modules, "comfy.model_management", management)
    host.Stopped = Stopped
    return host


def test_progress_is_shown_and_a_run_can_be_stopped(nodes, folder, host):
    workflow = workflow_with(loadpipeline={"model": str(folder)}, sample={"num_inference_steps": 3})
    del workflow["4"], workflow["5"], workflow["6"]
    outputs = run(nodes, workflow)
    assert host.told == [(1, 3), (2, 3), (3, 3)]
    host.told, host.stops_at = [], 2
    with pytest.raises(host.Stopped):
        run(nodes, workflow, {number: outputs[number] for number in "12"})
    assert host.told == [(1, 3), (2, 3)]
    host.stops_at = None
    run(nodes, workflow, {number: outputs[number] for number in "12"})  # the pipeline is free again


def test_a_pipeline_has_the_gpu_to_itself(nodes, folder, host, monkeypatch):
    # ComfyUI 0.33 lets go of the last workflow's pipeline after the first node of this one, which loads another
    moves = []
    monkeypatch.setattr(JoVAPipeline, "to", lambda self, device, **_: moves.append((self, device)))
    monkeypatch.setattr(comfyui.nodes, "check_device", str)  # there may be no GPU; the weights stay
    first, second = (nodes["JoVALoadPipeline"]().load(str(folder), "cuda", "float32", False)[0] for _ in range(2))
    assert moves == [(first.pipe, "cuda"), (first.pipe, "cpu"), (second.pipe, "cuda")] and host.unloaded == 2
    moves.clear()
    nodes["JoVAEncode"]().encode(first, **TEXTS)  # a workflow may have both
    nodes["JoVAEncode"]().encode(first, **TEXTS)
    assert moves == [(second.pipe, "cpu"), (first.pipe, "cuda"), (first.pipe, "cuda")] and host.unloaded == 4
    offloaded = comfyui.nodes.LoadedPipeline(second.pipe, "cuda", is_offloaded=True)
    offloaded.at_work()
    assert moves[3:] == [(first.pipe, "cpu")]


@pytest.mark.parametrize(
    "inputs, problem",
    [
        ({"loadpipeline": {"model": "./missing"}}, "1: There is no folder './missing'"),
        ({"loadpipeline": {"device": "abacus"}}, "1: device is not in"),
        ({"sample": {"num_inference_steps": -1}}, "3: num_inference_steps is outside of its bounds"),
        ({"sample": {"conditioning": ["1", 0]}}, "3: conditioning takes JOVA_CONDITIONING, not JOVA_PIPELINE"),
    ],
)
def test_a_workflow_that_cannot_run_is_refused_before_it_does(nodes, inputs, problem):
    (found,) = problems(nodes, workflow_with(**inputs))
    assert problem in found


def test_a_lora_that_is_missing_is_named():
    verdict = comfyui.NODE_CLASS_MAPPINGS["JoVALoadLora"].VALIDATE_INPUTS(lora="gone.safetensors")
    assert verdict.startswith("There is no LoRA file 'gone.safetensors'")


def test_a_clip_takes_one_image_and_offloading_takes_a_gpu(nodes):
    with pytest.raises(ValueError, match="`image` has a batch of 2"):
        nodes["JoVAEncode"]().encode(comfyui.nodes.LoadedPipeline(None), image=torch.rand(2, 8, 8, 3))
    with pytest.raises(ValueError, match="`cpu_offload` needs a GPU"):
        nodes["JoVALoadPipeline"]().load("jova-nano", "cpu", "auto", True)


def test_a_pipeline_without_audio_makes_a_video_alone(nodes, own_pipe):
    own_pipe.audio_vae = own_pipe.vocoder = None
    loaded = comfyui.nodes.LoadedPipeline(own_pipe)
    given = {"1": (loaded,)}
    workflow = workflow_with(sample={"num_inference_steps": 1})
    images, audio, _ = run(nodes, workflow, given)["4"]
    assert images.shape == (5, 32, 32, 3) and audio is None
