"""GPU targets without an architecture: the machine's GPU, found or faked, and the default where there is none."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from mlc import devices
from mlc.cli.params import compiling
from mlc.devices import Device
from mlc.errors import TargetError
from mlc.target import Target


def _has(monkeypatch: pytest.MonkeyPatch, device: Device | None) -> None:
    monkeypatch.setattr("mlc.target.present", lambda kind: device)
    monkeypatch.setattr("mlc.devices.present", lambda kind: device)


@pytest.mark.parametrize(("device", "expected"), [
    (Device("sm_90", 132, 50 << 20), "cuda:sm_90a"), (Device("sm_90", 114, 50 << 20), "cuda:sm_90a,sms=114"),
    (Device("sm_80", 108, 40 << 20), "cuda:sm_80"), (Device("sm_88", 10, 4 << 20), "cuda:sm_87,sms=10"), (None, "cuda:sm_90a"),
])
def test_cuda_is_the_gpu_that_is_there(monkeypatch: pytest.MonkeyPatch, device: Device | None, expected: str) -> None:
    _has(monkeypatch, device)
    assert str(Target.parse("cuda")) == expected
    assert Target.parse(expected) == Target.parse("cuda")


def test_a_gpu_that_is_too_old_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _has(monkeypatch, Device("sm_61", 20, 1))
    with pytest.raises(TargetError, match="GPU is a sm_61, expected one of sm_70"):
        Target.parse("cuda")


def test_features_follow_the_generation() -> None:
    assert not Target.parse("cuda:sm_75").has("mma")
    assert Target.parse("cuda:sm_120").has("mma")
    assert not Target.parse("cuda:sm_90").has("wgmma")


@pytest.mark.parametrize(("version", "arch"), [(90402, "gfx942"), (90010, "gfx90a"), (110000, "gfx1100"), (120001, "gfx1201")])
def test_amd_topology(tmp_path: Path, version: int, arch: str) -> None:
    for node, text in (("0", "cpu_cores_count 8\ngfx_target_version 0\n"),
                       ("1", f"simd_count 1216\nsimd_per_cu 4\nunique_id 0x12\ngfx_target_version {version}\n")):
        (tmp_path / node).mkdir()
        (tmp_path / node / "properties").write_text(text)
    assert devices._rocm(tmp_path) == Device(arch, 304, 0)  # type: ignore[reportPrivateUsage]
    assert devices._rocm(tmp_path / "none") is None  # type: ignore[reportPrivateUsage]


@pytest.mark.parametrize(("device", "said"), [
    (None, "no GPU for --target cuda here, compiling for cuda:sm_90a"), (Device("sm_80", 108, 40 << 20), "")])
def test_the_command_line_says_what_it_assumes(monkeypatch: pytest.MonkeyPatch, device: Device | None, said: str) -> None:
    import click

    @click.command()
    @compiling
    def command(options: dict[str, object]) -> None:
        click.echo(options["target"])

    _has(monkeypatch, device)
    result = CliRunner().invoke(command, ["--target", "cuda"])
    assert result.stdout.strip() == ("cuda:sm_90a" if device is None else "cuda:sm_80")
    assert result.stderr.strip().removeprefix("mlc: ") == said
