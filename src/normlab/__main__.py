"""`python -m normlab …` is `normlab …`."""

from normlab.commands.console import main

if __name__ == "__main__":
    main()
