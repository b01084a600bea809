#!/bin/bash
# EKS self-managed nodes with Amazon Linux 2, whose images ended on 2025-11-26: the bootstrap arguments as user data.
# bootstrap.sh reckons kubeReserved by the formula of docs/reservations.md; what is given here takes precedence.
set -o errexit
/etc/eks/bootstrap.sh gpus \
  --use-max-pods false \
  --kubelet-extra-args "--max-pods=110 \
--kube-reserved=cpu=550m,memory=1465Mi,ephemeral-storage=1Gi \
--system-reserved=cpu=500m,memory=4Gi,ephemeral-storage=10Gi \
--eviction-hard=memory.available<2Gi,nodefs.available<10%,nodefs.inodesFree<5% \
--node-labels=nvidia.com/gpu.present=true \
--register-with-taints=nvidia.com/gpu=present:NoSchedule"
