#!/bin/bash
# Trains on several machines of a Slurm cluster, and goes on by itself after a time limit, a
# pre-emption or a lost machine. Send it off with: sbatch slurm.sh
# Put your own in the lines below: name, time, machines, cards for each, processor cores for each.
#SBATCH --job-name=resnet
#SBATCH --time=04:00:00
#SBATCH --nodes=4
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --ntasks-per-node=1
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
#SBATCH --signal=B:USR1@120
set -euo pipefail

# On a file system that all machines share. DATA: shards, or a folder of images.
OUT="${OUT:-runs/resnet50}"
DATA="${DATA:-data/imagenet-shards}"

# Two minutes before the time is up (--signal): back into the queue. What the last epoch saved is
# in OUT, and the same line goes on from it.
trap 'scontrol requeue "$SLURM_JOB_ID"; exit 0' USR1

# All machines meet at the first one. The port is the job's own, so that two jobs can share it.
HEAD="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
PORT="$((20000 + SLURM_JOB_ID % 20000))"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-4}"
# Started again, the processes meet anew: not where the addresses of those that died are kept.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1

# One torchrun for each machine, which starts a process for each card. If a process dies, torchrun
# starts all of them again, at most three times, and --resume takes them to the last checkpoint.
# The batch is that of all cards together: 1,024 images are 32 for each of 32 cards.
srun torchrun \
  --nnodes "$SLURM_JOB_NUM_NODES" \
  --nproc-per-node "$SLURM_GPUS_ON_NODE" \
  --rdzv-id "$SLURM_JOB_ID" \
  --rdzv-backend c10d \
  --rdzv-endpoint "$HEAD:$PORT" \
  --max-restarts 3 \
  -m resnet_lib train --model resnet50 --data "$DATA" --recipe full --epochs 90 \
  --batch-size 1024 --lr 0.4 --warmup-epochs 5 --no-decay-on-norms \
  --out "$OUT" --resume &
wait $!
