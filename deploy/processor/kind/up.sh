#!/usr/bin/env bash
# The seed's development environment: a kind cluster with the batch processor, an inference stand-in and, with
# BATCH_REDIS_ENABLED=true, Redis. Run it by `make env-dev-kind`; needs kind, kubectl, helm and a container engine.
set -euo pipefail

cluster=${KIND_CLUSTER:-batch-processor}
image=${BATCH_IMAGE:-batch-processor:dev}
here=$(cd "$(dirname "$0")" && pwd)

for tool in kind kubectl helm; do
  command -v "$tool" >/dev/null || { echo "env-dev-kind needs $tool in the PATH" >&2; exit 2; }
done

kind get clusters | grep -qx "$cluster" || kind create cluster --name "$cluster"
kind load docker-image "$image" --name "$cluster"
kubectl config use-context "kind-$cluster"
kubectl apply -f "$here/inference.yaml"
helm upgrade --install dev "$here/../chart" \
  --set image.repository="${image%:*}" --set image.tag="${image##*:}" \
  --set redis.enabled="${BATCH_REDIS_ENABLED:-false}"
kubectl rollout status deployment/inference --timeout=180s
if [ "${BATCH_REDIS_ENABLED:-false}" = true ]; then
  kubectl rollout status statefulset/redis --timeout=180s
fi
kubectl rollout status deployment/dev-batch-processor --timeout=180s
