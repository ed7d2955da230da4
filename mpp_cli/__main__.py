"""``python -m mpp_cli`` is ``mpp``."""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        # Python has put the current folder before all others, where any file may stand in for a module.
        del sys.path[0]
    from mpp_cli.main import main

    main()
