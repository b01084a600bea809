// Validates custom resources against their published schemas: reads a JSON list of objects, and writes one of what is
// wrong with each. It stands beside the node_modules of package-lock.json.
import { readFileSync } from "node:fs";
import { EC2NodeClass } from "@kubernetes-models/karpenter/karpenter.k8s.aws/v1";
import { NodePool } from "@kubernetes-models/karpenter/karpenter.sh/v1";
import { Service } from "@kubernetes-models/knative/serving.knative.dev/v1";

const MODELS = {
  "karpenter.k8s.aws/v1 EC2NodeClass": EC2NodeClass,
  "karpenter.sh/v1 NodePool": NodePool,
  "serving.knative.dev/v1 Service": Service,
};

function mistakes(object) {
  const kind = `${object.apiVersion} ${object.kind}`;
  if (!(kind in MODELS)) return [`there is no schema of ${kind}`];
  const model = new MODELS[kind](object);
  // The constructor of a model states both whatever the object says.
  Object.assign(model, { apiVersion: object.apiVersion, kind: object.kind });
  try {
    model.validate();
    return [];
  } catch (error) {
    if (!Array.isArray(error.errors)) return [error.message];
    return error.errors.map(({ instancePath, message }) => `${instancePath}: ${message}`);
  }
}

const objects = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(objects.map(mistakes)));
