"""Train FCN-16s from FCN-32s, or FCN-8s from FCN-16s."""

from fcn.rungs import command

if __name__ == "__main__":
    command.run(__doc__, "stages.finetune", strides=(16, 8))
