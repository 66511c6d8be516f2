"""Prints every network with its size and cost, or one network's stages."""

from r23d_jax import models
from r23d_jax.errors import Parser, UserError, run_command
from r23d_jax.models.summary import Summary, summarize


def main() -> None:
    parser = Parser(prog="python -m r23d_jax.models", description=__doc__)
    parser.add_argument("--arch", help="show the stages of this network")
    parser.add_argument("--frames", type=int, default=16, help="frames in a clip (default: 16)")
    parser.add_argument("--size", type=int, default=112, help="height and width in pixels (default: 112)")
    parser.add_argument("--classes", type=int, default=400, help="classes of the head (default: 400)")
    parser.add_argument("--channels", type=int, default=3, help="input channels: 3 RGB, 2 flow (default: 3)")
    parser.add_argument("--width", type=int, default=64, help="channels of the first stage (default: 64)")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    args = parser.parse_args()
    if min(args.frames, args.size, args.classes, args.channels, args.width) < 1:
        raise UserError("--frames, --size, --classes, --channels and --width must each be at least 1")
    options = {
        "num_classes": args.classes,
        "frames": args.frames,
        "size": args.size,
        "in_channels": args.channels,
        "width": args.width,
    }
    print(f"one clip of {args.frames}x{args.size}x{args.size}, {args.channels} channels, {args.classes} classes")
    if args.arch is not None:
        _print_stages(summarize(args.arch, **options))
        return
    print(f"{'network':24} {'parameters':>12} {'GMAC':>8}  {'last stage':16} {'features':>8}")
    for name in models.NAMES:
        if name in models.ALIASES:
            print(f"{name:24} is {models.ALIASES[name]}", flush=True)
            continue
        found = summarize(name, **options)
        last = next(stage.shape for stage in reversed(found.stages) if len(stage.shape) == 4)
        print(
            f"{name:24} {found.parameters:12,} {found.macs / 1e9:8.2f}  {_times(last):16} {found.features:8}",
            flush=True,
        )


def _print_stages(found: Summary) -> None:
    alias = f", another name of {models.ALIASES[found.name]}" if found.name in models.ALIASES else ""
    print(f"{found.name}{alias}")
    print(f"{'stage':16} {'output':18} {'parameters':>12} {'GMAC':>8}")
    for stage in found.stages:
        print(f"{stage.name:16} {_times(stage.shape):18} {stage.parameters:12,} {stage.macs / 1e9:8.3f}")
    print(f"{'total':16} {'':18} {found.parameters:12,} {found.macs / 1e9:8.3f}")


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


if __name__ == "__main__":
    run_command(main)
