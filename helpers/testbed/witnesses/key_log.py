"""The key log: the secrets of the connections that the clients made, put into the capture that needs them."""

import os
import subprocess


def keep_keys(log):
    """Let every client that is started from now on write its secrets into the file `log`."""
    os.environ["SSLKEYLOGFILE"] = str(log)


def inject(log, capture):
    """Put the secrets of `log` into `capture`, as a Decryption Secrets Block; nothing else there changes.

    Raises `OSError` where there are no secrets, or the block can't be written.
    """
    if not log.exists():
        raise OSError("the client wrote no key log")
    draft = capture.with_name("with-secrets.pcapng")
    done = subprocess.run(["editcap", "--inject-secrets", f"tls,{log}", capture, draft], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"editcap can't put the secrets into the capture (status {done.returncode})")
    draft.replace(capture)
