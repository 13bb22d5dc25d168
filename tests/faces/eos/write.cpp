#include "eos/morphablemodel/MorphableModel.hpp"
#include "eos/morphablemodel/Blendshape.hpp"
#include <fstream>
using namespace eos::morphablemodel;
int main(){
 const int V=6; Eigen::VectorXf mean(3*V); for(int i=0;i<3*V;i++) mean[i]=i*0.5f-3;
 Eigen::MatrixXf b(3*V,2); for(int i=0;i<3*V;i++){b(i,0)=i; b(i,1)=100+i;}
 Eigen::VectorXf ev(2); ev<<4,9;
 std::vector<std::array<int,3>> t={{0,1,2},{3,4,5}};
 PcaModel shape(mean,b,ev,t), color(mean,b,ev,t);
 Blendshapes bs(2); for(int k=0;k<2;k++){bs[k].name=k?"happy":"anger"; bs[k].deformation=Eigen::VectorXf::Constant(3*V,k+1);}
 std::vector<std::array<double,2>> uv(V,{0.25,0.75});
 { MorphableModel m(shape,color,eos::cpp17::nullopt,uv); std::ofstream f("a.bin",std::ios::binary); cereal::BinaryOutputArchive o(f); o(m);}
 { std::unordered_map<std::string,int> lm={{"37",5}}; MorphableModel m(shape,ExpressionModel(bs),color,lm,uv,t); std::ofstream f("b.bin",std::ios::binary); cereal::BinaryOutputArchive o(f); o(m);}
 { MorphableModel m(shape,ExpressionModel(shape),PcaModel(),eos::cpp17::nullopt,uv); std::ofstream f("c.bin",std::ios::binary); cereal::BinaryOutputArchive o(f); o(m);}
 { std::ofstream f("bs.bin",std::ios::binary); cereal::BinaryOutputArchive o(f); o(bs);}
}
