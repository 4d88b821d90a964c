"""`python -m normlab …` does the same as `normlab …`."""

from normlab.commands.console import main

if __name__ == "__main__":
    main()
