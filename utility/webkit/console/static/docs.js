// The page of the API: Swagger UI on the description of this service alone; questions can be tried, changes can't.
"use strict";
SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#viewer", deepLinking: true, docExpansion: "list", defaultModelsExpandDepth: -1,
  filter: true, tagsSorter: "alpha", validatorUrl: null, supportedSubmitMethods: ["get"],
});
