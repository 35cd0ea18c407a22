"""Train FCN-32s from the backbone."""

from fcn.rungs import command

if __name__ == "__main__":
    command.run(__doc__, "stages.train", strides=(32,))
