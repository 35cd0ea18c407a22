"""Compare experiments: params, code, scores with confidence intervals, and the classes and images that changed most.

Each name is `workspace`, a DVC experiment, a group of `fcn seeds`, a recipe with recorded results, a commit, or the
name or id of a row in MLflow. Names separated by commas are repetitions of one experiment, such as its seeds. All are
compared with the first.
"""

import argparse
from pathlib import Path

EXAMPLE = "fcn compare HEAD my-experiment"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="+", metavar="NAME", help="an experiment, or several separated by commas")
    parser.add_argument(
        "--page", type=Path, metavar="FILE", help="HTML file to write (default: one below .fcn/compare)"
    )
    parser.add_argument(
        "--markdown",
        metavar="FILE",
        help="also write Markdown, as for a pull request, and its pictures; - prints only the Markdown",
    )


def run(arguments: argparse.Namespace) -> None:
    from fcn.runtime import machine
    from fcn.runtime.errors import UserError

    if arguments.page and arguments.page.suffix not in (".html", ".htm"):
        raise UserError(f"--page is {arguments.page}; write a name that ends in .html")
    if arguments.markdown and arguments.markdown != "-" and not arguments.markdown.endswith(".md"):
        raise UserError(f"--markdown is {arguments.markdown}; write a name that ends in .md, or - to print it")
    machine.prepare()
    from fcn.comparison import comparison, markdown, page, runs, text

    one, *others = runs.sides(arguments.names)
    found = [comparison.compare(one, other) for other in others]
    if arguments.markdown == "-":
        print(markdown.markdown(found), end="")
        if arguments.page:
            page.write(found, arguments.page)
        return
    for each in found:
        for line in text.lines(each):
            print(line)
        if sentence := text.verdict(each):
            print(f"\n{sentence}")
        print()
    if arguments.markdown:
        for path in markdown.write(found, Path(arguments.markdown)):
            print(f"wrote {path}")
    print(f"wrote {page.write(found, arguments.page)}")
