"""The command line: python -m benchmarks [TOPIC ...] [--small] [--only TEXT]; --help names the topics."""

import argparse

from benchmarks import (
    accuracy,
    contrastive,
    eager,
    image,
    import_time,
    language,
    memory,
    metric,
    segmentation,
    sequence,
    speed,
)

TOPICS = {
    "speed": speed.run,
    "memory": memory.run,
    "segmentation": segmentation.run,
    "metric": metric.run,
    "contrastive": contrastive.run,
    "image": image.run,
    "sequence": sequence.run,
    "language": language.run,
    "accuracy": accuracy.run,
    "eager": eager.run,
    "import": import_time.run,
}


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks", description="jaxloss beside its peers, on this machine.")
    parser.add_argument("topics", nargs="*", metavar="topic", help=f"{', '.join(TOPICS)}; all of them by default")
    parser.add_argument("--small", action="store_true", help="toy sizes, to see in seconds that everything runs")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the rows whose name contains TEXT")
    options = parser.parse_args()
    unknown = set(options.topics) - set(TOPICS)
    if unknown:
        parser.error(f"no such topic: {', '.join(sorted(unknown))}; there are {', '.join(TOPICS)}")
    for topic in options.topics or TOPICS:
        TOPICS[topic](small=options.small, only=options.only)


if __name__ == "__main__":
    main()
