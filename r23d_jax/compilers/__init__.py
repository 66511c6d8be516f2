"""Programs compiled for hardware that is not there, and what their compilers say of them.

`targets` names the hardware, `programs` compiles a run's training and evaluation step for it, `hlo` reads the compiled
text, and `figures` and `layers` make figures of that.
"""
