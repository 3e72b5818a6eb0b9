"""`python -m mlc.cli`: the tool where its script is not installed."""

from mlc.cli.main import main

if __name__ == "__main__":
    main()
